"""SQLite: executemany. The one writer thread is the only writer of these tables, so rows never change under it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from brain.ingest.rows import EVENT_COLUMNS, FACT_COLUMNS, TASK_COLUMNS, TaskKey
from brain.ingest.sql import (
    EVENT_TABLE,
    FACT_LIST,
    METRIC_CONFLICT,
    METRIC_TABLE,
    SEEN_CONFLICT,
    TASK_CONFLICT,
    TASK_LIST,
    TASK_TABLE,
    Database,
    SeenRow,
)

_EVENT_LIST = ", ".join(EVENT_COLUMNS)
_AGENT = EVENT_COLUMNS.index("agent_id")
_TIMES = frozenset(index for index, column in enumerate(FACT_COLUMNS) if column.endswith("_at") or column == "eta")
#: SQLite takes at most 32,766 parameters in a statement.
_CHUNK = 5000


def _datetime(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat(sep=" ")


#: Values as Django stores them in SQLite; all times of the store are UTC.
_CONVERT: dict[type, Callable[[Any], Any]] = {datetime: _datetime, UUID: lambda value: value.hex}


def _plain(row: Iterable[Any]) -> list[Any]:
    convert = _CONVERT
    return [convert[type(value)](value) if type(value) in convert else value for value in row]


def _time(value: str | datetime | None) -> datetime | None:
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _values(count: int) -> str:
    return "(" + ", ".join(["%s"] * count) + ")"


class SQLite(Database):
    """The same statements as on PostgreSQL, row by row inside one transaction."""

    def insert_events(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> dict[UUID, int]:
        """Insert agent by agent, since SQLite tells the number of new rows only for a whole statement."""
        by_agent: dict[UUID, list[list[Any]]] = defaultdict(list)
        for row in rows:
            by_agent[row[_AGENT]].append(_plain(row))
        counts = {}
        for agent_id, agent_rows in by_agent.items():
            cursor.executemany(
                f"INSERT INTO {EVENT_TABLE} ({_EVENT_LIST}) VALUES {_values(len(EVENT_COLUMNS))} "  # noqa: S608
                "ON CONFLICT (id) DO NOTHING",
                agent_rows,
            )
            counts[agent_id] = max(0, cursor.rowcount)
        return counts

    def load_tasks(
        self, cursor: CursorWrapper, keys: Sequence[TaskKey], *, lock: bool
    ) -> Iterable[tuple[TaskKey, int, tuple[Any, ...]]]:
        """Read by project and engine; ``lock`` changes nothing, the transaction holds the write lock already."""
        grouped: dict[tuple[UUID, str], list[str]] = defaultdict(list)
        for project_id, engine, task_id in keys:
            grouped[project_id, engine].append(task_id)
        for (project_id, engine), task_ids in grouped.items():
            for start in range(0, len(task_ids), _CHUNK):
                part = task_ids[start : start + _CHUNK]
                cursor.execute(
                    f"SELECT task_id, revision, {FACT_LIST} FROM {TASK_TABLE} "  # noqa: S608
                    f"WHERE project_id = %s AND engine = %s AND task_id IN {_values(len(part))}",
                    [project_id.hex, engine, *part],
                )
                for task_id, revision, *facts in cursor.fetchall():
                    values = (_time(v) if index in _TIMES else v for index, v in enumerate(facts))
                    yield (project_id, engine, task_id), revision, tuple(values)

    def upsert_tasks(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> int:
        """Upsert row by row."""
        cursor.executemany(
            f"INSERT INTO {TASK_TABLE} ({TASK_LIST}) VALUES {_values(len(TASK_COLUMNS))} {TASK_CONFLICT}",  # noqa: S608
            [_plain(row) for row in rows],
        )
        return int(cursor.rowcount)

    def add_metrics(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add row by row."""
        cursor.executemany(
            f"INSERT INTO {METRIC_TABLE} (project_id, minute, measure, engine, queue, name, bucket, count) "  # noqa: S608
            f"VALUES {_values(8)} {METRIC_CONFLICT}",
            [_plain(row) for row in rows],
        )

    def touch_seen(self, cursor: CursorWrapper, table: str, rows: Sequence[SeenRow], now: datetime) -> None:
        """Insert or touch row by row."""
        moment = _datetime(now)
        cursor.executemany(
            f"INSERT INTO {table} (project_id, engine, name, first_seen_at, last_seen_at) "  # noqa: S608
            f"VALUES {_values(5)} {SEEN_CONFLICT}",
            [[project_id.hex, engine, name, moment, moment] for project_id, engine, name in rows],
        )
