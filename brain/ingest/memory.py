"""What the writer remembers from one group to the next, so as not to ask the database: an optimisation, never a truth.

A task changed by another writer is found out by its revision, an event that is there already by its id
(:mod:`brain.ingest.postgresql`). Nothing is remembered before its transaction is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from brain.ingest.rows import TaskKey
from brain.ingest.sql import SeenRow
from brain.projection import Facts
from brain.states import RANK, TaskState

#: Events remembered, to know again what agents repeat within seconds.
MAX_EVENTS = 20_000
#: Unfinished tasks remembered, and the longest arguments of one, in characters.
MAX_TASKS = 20_000
MAX_CALL = 4096
#: Groups for which nothing is taken for new after that has been wrong.
DOUBT = 64
_LAST_OPEN_RANK = RANK[TaskState.RETRY]

Known = tuple[int, Facts]


def _trim(remembered: dict[Any, Any], cap: int) -> None:
    """Forget the oldest when there are too many, some more at once so that it is rare."""
    excess = len(remembered) - cap
    if excess > 0:
        for key in list(remembered)[: excess + cap // 10]:
            del remembered[key]


class EventMemory:
    """The ids of the events written last."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._doubt = 0

    def without(self, rows: Mapping[str, Any], others: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the rows of events that are neither known nor among the others."""
        repeated = (rows.keys() & self._known.keys()) | (rows.keys() & others.keys())
        return rows if not repeated else {key: row for key, row in rows.items() if key not in repeated}

    @property
    def doubts(self) -> bool:
        """Whether not to take events and beginning tasks for new."""
        return self._doubt > 0

    def wrong(self) -> None:
        """Take nothing for new for a while: streams are being repeated, or their beginnings came by another way."""
        self._doubt = DOUBT

    def keep(self, identifiers: Iterable[str]) -> None:
        """Remember what was committed."""
        self._doubt = max(0, self._doubt - 1)
        self._known.update(dict.fromkeys(identifiers))
        _trim(self._known, MAX_EVENTS)


class TaskMemory:
    """Unfinished tasks as they were last written."""

    def __init__(self) -> None:
        self._known: dict[TaskKey, Known] = {}

    def recall(self, key: TaskKey) -> Known | None:
        """Return revision and facts of a task, if remembered."""
        return self._known.get(key)

    def keep(self, written: Iterable[tuple[TaskKey, int, Facts]]) -> None:
        """Remember what was committed, but not what has ended."""
        for key, revision, facts in written:
            self._known.pop(key, None)
            if facts.rank <= _LAST_OPEN_RANK and len(facts.call[1]) + len(facts.call[2]) <= MAX_CALL:
                self._known[key] = revision, facts
        _trim(self._known, MAX_TASKS)


class SeenMemory:
    """Names noted as seen in the running minute."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, SeenRow]] = set()
        self._minute: datetime | None = None

    def unseen(self, names: Iterable[tuple[str, SeenRow]], now: datetime) -> list[tuple[str, SeenRow]]:
        """Return those of (table, row) that were not noted in this minute, sorted."""
        minute = now.replace(second=0, microsecond=0)
        if minute != self._minute:
            self._seen.clear()
            self._minute = minute
        return sorted(set(names) - self._seen)

    def keep(self, names: Iterable[tuple[str, SeenRow]]) -> None:
        """Remember what was committed."""
        self._seen.update(names)
