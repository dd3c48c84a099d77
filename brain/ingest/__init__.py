"""The only writer of events, tasks, counters, queues, workers and quarantine: from frames to rows."""

from brain.ingest.batch import Batch, Verdict
from brain.ingest.commit import Committer
from brain.ingest.sql import Source
from brain.ingest.writer import Writer

__all__ = ["Batch", "Committer", "Source", "Verdict", "Writer"]
