"""One group of batches into the database, in one transaction and in key order."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from brain.ingest.decode import Incoming
from brain.ingest.postgresql import PostgreSQL
from brain.ingest.rows import TaskKey, facts_of, task_row
from brain.ingest.sql import SEEN_TABLES, Database, SeenRow
from brain.ingest.sqlite import SQLite
from brain.models import Agent
from brain.projection import Facts, difference, join, of_event
from brain.states import KIND_STATE

_DATABASES: dict[str, Database] = {"postgresql": PostgreSQL(), "sqlite": SQLite()}


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Whose events they are."""

    project_id: UUID
    agent_id: UUID


@dataclasses.dataclass(slots=True)
class Group:
    """What one transaction writes: decoded events by their source, and when the brain received them."""

    received_at: datetime
    events: list[tuple[Source, Incoming]] = dataclasses.field(default_factory=list)


class Contention(Exception):
    """Another writer kept changing the same tasks."""


class Store:
    """Writes groups; remembers for the length of a minute which names it has noted as seen."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, SeenRow]] = set()
        self._seen_minute: datetime | None = None

    def write(self, group: Group) -> None:
        """Write a group, all of it or nothing. Raises the database's errors."""
        if not group.events:
            return
        database = _DATABASES[connection.vendor]
        seen = self._new_names(group)
        with transaction.atomic(), connection.cursor() as cursor:
            fresh = database.insert_events(cursor, [_event_row(source, event, group) for source, event in group.events])
            self._write_tasks(database, cursor, group)
            for table, names in sorted(seen.items()):
                database.touch_seen(cursor, SEEN_TABLES[table], sorted(names), group.received_at)
            for agent_id, count in sorted(fresh.items()):
                Agent.objects.filter(id=agent_id).update(visible=F("visible") + count)
        self._seen.update((table, name) for table, names in seen.items() for name in names)

    def _write_tasks(self, database: Database, cursor: Any, group: Group) -> None:
        told = _fold(group.events)
        if not told:
            return
        keys = sorted(told)
        for turn in range(10):
            current = {key: (revision, row) for key, revision, row in database.load_tasks(cursor, keys, lock=turn > 0)}
            rows, moved = _changes(keys, told, current, group.received_at)
            if not rows:
                return
            point = transaction.savepoint()
            if database.upsert_tasks(cursor, rows) == len(rows):
                transaction.savepoint_commit(point)
                if moved:
                    database.add_metrics(cursor, moved)
                return
            transaction.savepoint_rollback(point)
        raise Contention(f"{len(keys)} tasks kept changing")

    def _new_names(self, group: Group) -> dict[str, set[SeenRow]]:
        minute = group.received_at.replace(second=0, microsecond=0)
        if minute != self._seen_minute:
            self._seen.clear()
            self._seen_minute = minute
        found: dict[str, set[SeenRow]] = defaultdict(set)
        for source, event in group.events:
            told = event.told
            for table, name in (("name", told.name), ("queue", told.queue), ("worker", told.worker)):
                row = (source.project_id, event.engine, name)
                if name and not name.startswith("<unknown") and (table, row) not in self._seen:
                    found[table].add(row)
        return found


def _event_row(source: Source, event: Incoming, group: Group) -> tuple[Any, ...]:
    told = event.told
    return (
        event.id, source.project_id, source.agent_id, event.engine, event.kind, event.task_id,
        told.name, told.queue, told.worker, event.occurred_at, group.received_at, told.seq, event.flags, event.payload,
    )  # fmt: skip


def _fold(events: Sequence[tuple[Source, Incoming]]) -> dict[TaskKey, Facts]:
    folded: dict[TaskKey, Facts] = {}
    for source, event in events:
        if event.task_id and event.kind in KIND_STATE:
            key = (source.project_id, event.engine, event.task_id)
            facts = of_event(event.kind, event.occurred_at, event.told)
            known = folded.get(key)
            folded[key] = facts if known is None else join(known, facts)
    return folded


def _changes(
    keys: list[TaskKey],
    told: dict[TaskKey, Facts],
    current: dict[TaskKey, tuple[int, tuple[Any, ...]]],
    now: datetime,
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the task rows that change, and by how much the counters move."""
    rows: list[tuple[Any, ...]] = []
    moved: Counter[tuple[Any, ...]] = Counter()
    for key in keys:
        revision, row = current.get(key, (0, None))
        old = None if row is None else facts_of(row)
        new = told[key] if old is None else join(old, told[key])
        if new == old:
            continue
        rows.append(task_row(key, new, now, revision + 1))
        for (minute, measure, queue, name, bucket), count in difference(old, new, now).items():
            moved[key[0], minute, measure, key[1], queue, name, bucket] += count
    return rows, [(*key, moved[key]) for key in sorted(moved) if moved[key]]
