"""SQLite: statements of many rows. The one writer thread is the only writer of these tables.

Python's driver gives up the interpreter lock for every step of a statement, and gets it back late when other threads
are at work. One statement for 500 rows does so once, ``executemany`` 500 times.
"""

from __future__ import annotations

import functools
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

from brain.ingest.decode import Incoming
from brain.ingest.rows import EVENT_COLUMNS, FACT_COLUMNS, METRIC_KEY, TASK_COLUMNS, TaskKey
from brain.ingest.sql import (
    AGENT_TABLE,
    EVENT_TABLE,
    FACT_LIST,
    METRIC_CONFLICT,
    METRIC_TABLE,
    SEEN_CONFLICT,
    TASK_CONFLICT,
    TASK_TABLE,
    Contention,
    Database,
    SeenRow,
    Source,
    TaskRow,
)

_AGENT = EVENT_COLUMNS.index("agent_id")
_TIMES = frozenset(index for index, column in enumerate(FACT_COLUMNS) if column.endswith("_at") or column == "eta")
_UTC_OFFSET = len("+00:00")
#: Keys of one look-up; SQLite takes at most 32,766 parameters in a statement.
_CHUNK = 5000
#: Rows of one statement; a few sizes, so that the driver's cache of statements knows them all.
_SIZES = (500, 100, 20, 4, 1)


def _time(moment: datetime) -> str:
    """Return a time as Django stores it in SQLite; all times of the store are UTC."""
    return str(moment)[:-_UTC_OFFSET]


def plain(row: Iterable[Any]) -> list[Any]:
    """Return the values of a row as SQLite takes them."""
    return [_time(value) if type(value) is datetime else value for value in row]


def _moment(value: str | datetime | None) -> datetime | None:
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@functools.cache
def _statement(table: str, columns: tuple[str, ...], conflict: str, rows: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)} {conflict}"  # noqa: S608


def _insert(
    cursor: CursorWrapper, table: str, columns: tuple[str, ...], rows: Sequence[Sequence[Any]], conflict: str
) -> int:
    """Insert rows and return how many took effect. All names are constants of this package."""
    changed = start = 0
    # Django's cursor would look for its own placeholders in statements of thousands of them.
    raw: sqlite3.Cursor = cursor.cursor
    with connection.wrap_database_errors:
        for size in _SIZES:
            while len(rows) - start >= size:
                values = tuple(chain.from_iterable(rows[start : start + size]))
                sqlite3.Cursor.execute(raw, _statement(table, columns, conflict, size), values)
                changed += raw.rowcount
                start += size
    return changed


class SQLite(Database):
    """The same statements as on PostgreSQL, row by row inside one transaction."""

    remembers = False

    def time(self, moment: datetime) -> str:
        """Return it without its zone."""
        return _time(moment)

    def event_row(self, source: Source, event: Incoming, received_at: str) -> tuple[Any, ...]:
        """Return the values of a row."""
        told = event.told
        return (
            event.id, source.project, source.agent, event.engine, event.kind, event.task_id,
            told.task_name or "", told.queue or "", told.worker or "", _time(event.occurred_at), received_at,
            told.seq, event.flags, event.payload,
        )  # fmt: skip

    def insert_events(self, cursor: CursorWrapper, rows: Mapping[str, Any], *, certain: bool) -> dict[str, int]:
        """Insert agent by agent, since SQLite tells the number of new rows only for a whole statement."""
        by_agent: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for row in rows.values():
            by_agent[row[_AGENT]].append(row)
        counts = {}
        for agent, agent_rows in by_agent.items():
            counts[agent] = _insert(cursor, EVENT_TABLE, EVENT_COLUMNS, agent_rows, "ON CONFLICT (id) DO NOTHING")
        return counts

    def load_tasks(
        self, cursor: CursorWrapper, keys: Sequence[TaskKey]
    ) -> Iterable[tuple[TaskKey, int, tuple[Any, ...]]]:
        """Read by project and engine."""
        grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
        for project, engine, task_id in keys:
            grouped[project, engine].append(task_id)
        for (project, engine), task_ids in grouped.items():
            for start in range(0, len(task_ids), _CHUNK):
                part = task_ids[start : start + _CHUNK]
                cursor.execute(
                    f"SELECT task_id, revision, {FACT_LIST} FROM {TASK_TABLE} "  # noqa: S608
                    f"WHERE project_id = %s AND engine = %s AND task_id IN ({', '.join(['%s'] * len(part))})",
                    [project, engine, *part],
                )
                for task_id, revision, *facts in cursor.fetchall():
                    values = (_moment(v) if index in _TIMES else v for index, v in enumerate(facts))
                    yield (project, engine, task_id), revision, tuple(values)

    def upsert_tasks(self, cursor: CursorWrapper, rows: Sequence[TaskRow], *, certain: bool) -> list[TaskKey]:
        """Upsert. They were read in this transaction, so none of them can have changed."""
        changed = _insert(cursor, TASK_TABLE, TASK_COLUMNS, [plain(row) for row in rows], TASK_CONFLICT)
        if changed != len(rows):
            raise Contention(f"{len(rows) - changed} tasks changed inside a transaction")
        return []

    def add_metrics(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add."""
        _insert(cursor, METRIC_TABLE, (*METRIC_KEY, "count"), [plain(row) for row in rows], METRIC_CONFLICT)

    def touch_seen(self, cursor: CursorWrapper, table: str, rows: Sequence[SeenRow], now: datetime) -> None:
        """Insert or touch."""
        moment = _time(now)
        columns = ("project_id", "engine", "name", "first_seen_at", "last_seen_at")
        _insert(cursor, table, columns, [(*row, moment, moment) for row in rows], SEEN_CONFLICT)

    def add_visible(self, cursor: CursorWrapper, counts: Sequence[tuple[str, int]]) -> None:
        """Add row by row."""
        cursor.executemany(
            f"UPDATE {AGENT_TABLE} SET visible = visible + %s WHERE id = %s",  # noqa: S608
            [(count, agent) for agent, count in counts],
        )
