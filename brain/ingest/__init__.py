"""The only writer of events, tasks, counters, queues, workers and quarantine: from frames to rows."""

from brain.ingest.commit import Batch, Committer, Verdict
from brain.ingest.store import Source
from brain.ingest.writer import Writer

__all__ = ["Batch", "Committer", "Source", "Verdict", "Writer"]
