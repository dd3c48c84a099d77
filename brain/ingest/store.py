"""One group of batches into the database, in one transaction and in key order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import connection, transaction
from z4j_core.events import is_placeholder

from brain.ingest.batch import Prepared
from brain.ingest.memory import EventMemory, Known, SeenMemory, TaskMemory
from brain.ingest.postgresql import PostgreSQL
from brain.ingest.rows import TaskKey, facts_of, task_row
from brain.ingest.sql import SEEN_TABLES, AlreadyThere, Contention, Database, SeenRow
from brain.ingest.sqlite import SQLite
from brain.projection import Facts, difference, join

_DATABASES: dict[str, Database] = {"postgresql": PostgreSQL(), "sqlite": SQLite()}
#: Times a task is joined again because another writer changed it; after the first it is locked.
_TURNS = 3


def statements_of(vendor: str) -> Database:
    """Return the statements of a database: ``postgresql`` or ``sqlite``."""
    return _DATABASES[vendor]


def database() -> Database:
    """Return the statements of the database in use."""
    return statements_of(connection.vendor)


@dataclasses.dataclass(slots=True)
class _Change:
    """A task row to be written."""

    key: TaskKey
    revision: int
    old: Facts | None
    new: Facts


@dataclasses.dataclass(slots=True)
class _Work:
    """A group put together: what one transaction writes."""

    now: datetime
    rows: dict[str, Any]
    by_agent: Counter[str]
    told: dict[TaskKey, Facts]
    seen: list[tuple[str, SeenRow]]
    written: list[tuple[TaskKey, int, Facts]] = dataclasses.field(default_factory=list)


class Store:
    """Writes groups, and remembers what it wrote once it is told that it is committed."""

    def __init__(self) -> None:
        self._database = database()
        self._events = EventMemory()
        self._tasks = TaskMemory()
        self._seen = SeenMemory()
        self._work: _Work | None = None

    def write(self, group: Sequence[Prepared], now: datetime) -> None:
        """Write a group, all of it or nothing. Raises the database's errors."""
        self._work = work = self._gather(group, now)
        if not work.rows and not work.told:
            return
        if self._database.remembers and not self._events.doubts:
            try:
                with transaction.atomic():
                    self._write(work, certain=True)
                return
            except AlreadyThere:
                self._events.wrong()
                work.written.clear()
        self._write(work, certain=False)

    def committed(self) -> None:
        """Remember what the last :meth:`write` wrote."""
        if self._work is not None:
            self._events.keep(self._work.rows)
            self._tasks.keep(self._work.written)
            self._seen.keep(self._work.seen)
            self._work = None

    def _gather(self, group: Sequence[Prepared], now: datetime) -> _Work:
        rows: dict[str, Any] = {}
        by_agent: Counter[str] = Counter()
        told: dict[TaskKey, Facts] = {}
        for prepared in group:
            before = len(rows)
            rows.update(self._events.without(prepared.rows, rows))
            by_agent[prepared.source.agent] += len(rows) - before
            for key, facts in prepared.told.items():
                known = told.get(key)
                told[key] = facts if known is None else join(known, facts)
        return _Work(now, rows, by_agent, told, self._seen.unseen(_names(group), now))

    def _write(self, work: _Work, *, certain: bool) -> None:
        """Write it; ``certain`` takes every event for new, and every task that seems to begin."""
        database = self._database
        with transaction.atomic(), connection.cursor() as cursor:
            fresh: Mapping[str, int] | None = None
            if work.rows:
                fresh = database.insert_events(cursor, work.rows, certain=certain)
            self._write_tasks(cursor, work, certain=certain)
            for table, pairs in groupby(work.seen, key=itemgetter(0)):
                database.touch_seen(cursor, SEEN_TABLES[table], [row for _, row in pairs], work.now)
            fresh = work.by_agent if fresh is None else fresh
            counts = sorted((agent, count) for agent, count in fresh.items() if count)
            if counts:
                database.add_visible(cursor, counts)

    def _write_tasks(self, cursor: Any, work: _Work, *, certain: bool) -> None:
        database = self._database
        keys, moved = sorted(work.told), Counter[tuple[Any, ...]]()
        for turn in range(_TURNS):
            current = self._current(cursor, keys, work.told, certain=certain, from_memory=turn == 0)
            changes = _changes(keys, work.told, current)
            rows = [task_row(change.key, change.new, work.now, change.revision) for change in changes]
            left = set(database.upsert_tasks(cursor, rows, certain=certain)) if rows else set()
            for change in changes:
                if change.key not in left:
                    work.written.append((change.key, change.revision, change.new))
                    _count(moved, change, work.now)
            if not left:
                break
            keys = sorted(left)
        else:
            raise Contention(f"{len(keys)} tasks kept changing")
        metrics = [(*key, moved[key]) for key in sorted(moved) if moved[key]]
        if metrics:
            database.add_metrics(cursor, metrics)

    def _current(
        self, cursor: Any, keys: list[TaskKey], told: dict[TaskKey, Facts], *, certain: bool, from_memory: bool
    ) -> dict[TaskKey, Known]:
        """Return revision and facts of the tasks that exist: remembered, or read."""
        found: dict[TaskKey, Known] = {}
        unknown = keys
        if from_memory and self._database.remembers:
            unknown = []
            for key in keys:
                known = self._tasks.recall(key)
                if known is not None:
                    found[key] = known
                elif not (certain and _begins(told[key])):
                    unknown.append(key)
        if unknown:
            for key, revision, row in self._database.load_tasks(cursor, unknown):
                found[key] = revision, facts_of(row)
        return found


def _begins(told: Facts) -> bool:
    """Guess from what is told of an unknown task whether this is its beginning."""
    return told.attempt == 0 and (told.published_at or told.received_at) is not None


def _names(group: Sequence[Prepared]) -> Iterable[tuple[str, SeenRow]]:
    """Return the (table, row) of every name in a group."""
    for project, engine, *names in set().union(*(prepared.seen for prepared in group)):
        for table, name in zip(("name", "queue", "worker"), names, strict=True):
            if name and not is_placeholder(name):
                yield table, (project, engine, name)


def _changes(keys: list[TaskKey], told: dict[TaskKey, Facts], current: dict[TaskKey, Known]) -> list[_Change]:
    """Return the tasks that change."""
    changes = []
    for key in keys:
        known = current.get(key)
        if known is None:
            changes.append(_Change(key, 1, None, told[key]))
            continue
        revision, old = known
        new = join(old, told[key])
        if new != old:
            changes.append(_Change(key, revision + 1, old, new))
    return changes


def _count(moved: Counter[tuple[Any, ...]], change: _Change, now: datetime) -> None:
    """Add by how much the counters move."""
    project, engine, _ = change.key
    for (minute, measure, queue, name, bucket), count in difference(change.old, change.new, now).items():
        moved[project, minute, measure, engine, queue, name, bucket] += count
