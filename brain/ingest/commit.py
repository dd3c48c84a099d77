"""A group of batches committed: decoded, written in one transaction, narrowed down on what the database refuses."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from django.db import DataError, Error, IntegrityError, connection, transaction
from z4j_core.errors import FrameError
from z4j_core.text import clean_text

from brain.ingest.decode import Incoming, Rejected, decode_batch
from brain.ingest.store import Group, Source, Store
from brain.models import Quarantine

logger = logging.getLogger("z4j.ingest")

QUARANTINE_BYTES = 8 * 1024
MAX_PAUSE = 5.0
#: SQLSTATE classes that speak of the content: data exception, constraint, program limit (nesting, index row).
_CONTENT_CLASSES = frozenset({"22", "23", "54"})


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a batch; all of it is acknowledged."""

    received: int
    accepted: int
    rejected: int

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.received + other.received, self.accepted + other.accepted, self.rejected + other.rejected)


@dataclasses.dataclass(slots=True)
class Batch:
    """The payload of one verified ``event_batch``, and what its events turned out to be."""

    source: Source
    retention_days: int
    payload_json: bytes
    accepted: list[Incoming] = dataclasses.field(default_factory=list)
    rejected: list[Rejected] = dataclasses.field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The counts for the acknowledgement."""
        accepted, rejected = len(self.accepted), len(self.rejected)
        return Verdict(accepted + rejected, accepted, rejected)


class Committer:
    """Commits groups of batches; used by one thread."""

    def __init__(
        self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._store = Store()

    def commit(self, group: list[Batch]) -> None:
        """Decode and write a group. When it returns, all of it is durable: as events, or in quarantine.

        Waits while the database is away; raises nothing of the database's.
        """
        now = self._clock()
        for batch in group:
            _decode(batch, now)
        self._write(group, now)

    def _write(self, group: list[Batch], now: datetime) -> None:
        delay = 0.1
        while True:
            try:
                with transaction.atomic():
                    self._store.write(
                        Group(now, [(batch.source, event) for batch in group for event in batch.accepted])
                    )
                    _quarantine(group, now)
                return
            except Error as error:
                if _refused(error):
                    self._narrow(group, now, error)
                    return
                logger.warning("cannot write to the database, trying again in %.1f s: %s", delay, error)
                connection.close()
                self._pause(delay)
                delay = min(delay * 2, MAX_PAUSE)
            except Exception as error:
                # A fault of ours with this content: it costs the event that has it, not everyone's stream.
                logger.exception("cannot write a group of %d batches as one", len(group))
                self._narrow(group, now, error)
                return

    def _narrow(self, group: list[Batch], now: datetime, error: Exception) -> None:
        """Write what can be written alone, so that one bad event costs only itself."""
        if len(group) > 1:
            for batch in group:
                self._write([batch], now)
            return
        (batch,) = group
        if len(batch.accepted) <= 1:
            reason = f"it could not be stored: {error}"[:500]
            batch.rejected += [Rejected(reason, event.payload) for event in batch.accepted]
            batch.accepted = []
            self._write(group, now)
            return
        events, batch.accepted = batch.accepted, []
        for event in events:
            single = dataclasses.replace(batch, accepted=[event], rejected=[])
            self._write([single], now)
            batch.accepted += single.accepted
        self._write([dataclasses.replace(batch, accepted=[])], now)
        batch.rejected += [Rejected("refused by the database", "")] * (len(events) - len(batch.accepted))


def _refused(error: Error) -> bool:
    """Tell whether the database refused the content (it will again) or was not able to take anything now."""
    if isinstance(error, DataError | IntegrityError):
        return True
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return state[:2] in _CONTENT_CLASSES


def _decode(batch: Batch, now: datetime) -> None:
    try:
        batch.accepted, batch.rejected = decode_batch(
            batch.payload_json,
            project_id=batch.source.project_id,
            now=now,
            retention_days=batch.retention_days,
        )
    except FrameError as error:
        content = batch.payload_json[:QUARANTINE_BYTES].decode("utf-8", "replace")
        batch.rejected = [Rejected(str(error)[:500], content)]


def _quarantine(group: list[Batch], now: datetime) -> None:
    rows = [
        Quarantine(
            project_id=batch.source.project_id,
            agent_id=batch.source.agent_id,
            received_at=now,
            reason=clean_text(rejected.reason),
            size=len(rejected.content),
            content=clean_text(rejected.content[:QUARANTINE_BYTES]),
        )
        for batch in group
        for rejected in batch.rejected
    ]
    if rows:
        Quarantine.objects.bulk_create(rows)
