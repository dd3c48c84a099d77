"""A group of batches committed: written in one transaction, narrowed down on what the database refuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from django.db import DataError, Error, IntegrityError, connection, transaction
from z4j_core.text import clean_text

from brain.ingest.batch import QUARANTINE_BYTES, Batch
from brain.ingest.decode import Rejected
from brain.ingest.store import Store, database
from brain.models import Quarantine

logger = logging.getLogger("z4j.ingest")

MAX_PAUSE = 5.0
#: Times a group is written again because its partition was being made, and the seconds between.
MAX_MOVES = 50
MOVE_PAUSE = 0.05
_CHECK_VIOLATION = "23514"
#: SQLSTATE classes that speak of the content: data exception, constraint, program limit (nesting, index row).
_CONTENT_CLASSES = frozenset({"22", "23", "54"})


class Committer:
    """Commits groups of batches; used by one thread."""

    def __init__(
        self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._database = database()
        self._store = Store()

    def commit(self, group: list[Batch]) -> None:
        """Write a group. When it returns, all of it is durable: as events, or in quarantine.

        Waits while the database is away; raises nothing of the database's.
        """
        for batch in group:
            if batch.prepared is None:
                batch.prepare(self._database)
        self._write(group)

    def _write(self, group: list[Batch]) -> None:
        delay, moves = 0.1, 0
        while True:
            now = self._clock()
            try:
                with transaction.atomic():
                    self._store.write([batch.prepared for batch in group if batch.prepared is not None], now)
                    _quarantine(group, now)
                self._store.committed()
                return
            except Error as error:
                if _moved(error) and moves < MAX_MOVES:
                    moves += 1
                    self._pause(MOVE_PAUSE)
                    continue
                if _refused(error):
                    self._narrow(group, error)
                    return
                logger.warning("cannot write to the database, trying again in %.1f s: %s", delay, error)
                connection.close()
                self._pause(delay)
                delay = min(delay * 2, MAX_PAUSE)
            except Exception as error:
                # A fault of ours with this content: it costs the event that has it, not everyone's stream.
                logger.exception("cannot write a group of %d batches as one", len(group))
                self._narrow(group, error)
                return

    def _narrow(self, group: list[Batch], error: Exception) -> None:
        """Write what can be written alone, so that one bad event costs only itself."""
        if len(group) > 1:
            for batch in group:
                self._write([batch])
            return
        (batch,) = group
        if not batch.accepted:
            logger.error("cannot even quarantine what was rejected of agent %s: %s", batch.source.agent_id, error)
            return
        if len(batch.accepted) == 1:
            reason = f"it could not be stored: {error}"[:500]
            refused = [*batch.rejected, *(Rejected(reason, event.payload) for event in batch.accepted)]
            self._write([batch.part(self._database, [], refused)])
            batch.accepted, batch.rejected = [], refused
            return
        self._write_each(batch)

    def _write_each(self, batch: Batch) -> None:
        """Write the events of a batch one by one, and what was rejected of it before."""
        singles = [batch.part(self._database, [event], []) for event in batch.accepted]
        rest = batch.part(self._database, [], batch.rejected)
        for single in [*singles, rest]:
            self._write([single])
        batch.accepted = [event for single in singles for event in single.accepted]
        batch.rejected = [rejected for single in [*singles, rest] for rejected in single.rejected]


def _moved(error: Error) -> bool:
    """Tell whether a partition was made for events while they were on their way to the default one."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state == _CHECK_VIOLATION and "partition constraint" in str(error)


def _refused(error: Error) -> bool:
    """Tell whether the database refused the content (it will again) or was not able to take anything now."""
    if isinstance(error, DataError | IntegrityError):
        return True
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return state[:2] in _CONTENT_CLASSES


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
