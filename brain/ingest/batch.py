"""A batch on its way: as it came, and made ready for the database without asking it. Pure; any thread may do it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from z4j_core.errors import FrameError

from brain.ingest.decode import Incoming, Rejected, decode_batch
from brain.ingest.rows import TaskKey
from brain.ingest.sql import Database, Seen, Source
from brain.projection import Facts, absorb
from brain.states import KIND_STATE

QUARANTINE_BYTES = 8 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a batch; all of it is acknowledged."""

    received: int
    accepted: int
    rejected: int

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.received + other.received, self.accepted + other.accepted, self.rejected + other.rejected)


@dataclasses.dataclass(slots=True)
class Prepared:
    """Events as the store takes them: rows by event id, facts by task, and every (engine, name, queue, worker)."""

    source: Source
    rows: dict[str, Any]
    told: dict[TaskKey, Facts]
    seen: set[Seen]


@dataclasses.dataclass(slots=True)
class Batch:
    """The payload of one verified ``event_batch``, and what its events turned out to be."""

    source: Source
    retention_days: int
    payload_json: bytes
    received_at: datetime
    accepted: list[Incoming] = dataclasses.field(default_factory=list)
    rejected: list[Rejected] = dataclasses.field(default_factory=list)
    prepared: Prepared | None = None

    @property
    def verdict(self) -> Verdict:
        """The counts for the acknowledgement."""
        accepted, rejected = len(self.accepted), len(self.rejected)
        return Verdict(accepted + rejected, accepted, rejected)

    def prepare(self, database: Database) -> None:
        """Decode and fold."""
        try:
            self.accepted, self.rejected = decode_batch(
                self.payload_json,
                project_id=self.source.project_id,
                now=self.received_at,
                retention_days=self.retention_days,
            )
        except FrameError as error:
            content = self.payload_json[:QUARANTINE_BYTES].decode("utf-8", "replace")
            self.rejected = [Rejected(str(error)[:500], content)]
        self.prepared = prepare(database, self.source, self.accepted, self.received_at)

    def part(self, database: Database, accepted: list[Incoming], rejected: list[Rejected]) -> Batch:
        """Return some of its events as a batch of their own."""
        prepared = prepare(database, self.source, accepted, self.received_at)
        return dataclasses.replace(self, accepted=accepted, rejected=rejected, prepared=prepared)


def prepare(database: Database, source: Source, events: Sequence[Incoming], received_at: datetime) -> Prepared:
    """Return events as the store takes them."""
    received = database.time(received_at)
    return Prepared(
        source,
        {event.id: database.event_row(source, event, received) for event in events},
        _fold(source.project, events),
        {(source.project, e.engine, e.told.task_name, e.told.queue, e.told.worker) for e in events},
    )


def _fold(project: str, events: Sequence[Incoming]) -> dict[TaskKey, Facts]:
    folded: dict[TaskKey, Facts] = {}
    for event in events:
        if event.kind in KIND_STATE and event.task_id:
            key = (project, event.engine, event.task_id)
            facts = folded.get(key)
            if facts is None:
                facts = folded[key] = Facts()
            absorb(facts, event.kind, event.occurred_at, event.told)
    return folded
