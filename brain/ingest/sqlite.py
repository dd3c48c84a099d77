"""SQLite: executemany. The one writer thread is the only writer of these tables, so rows never change under it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db.backends.utils import CursorWrapper

from brain.ingest.decode import Incoming
from brain.ingest.rows import EVENT_COLUMNS, FACT_COLUMNS, TASK_COLUMNS, TaskKey
from brain.ingest.sql import (
    AGENT_TABLE,
    EVENT_TABLE,
    FACT_LIST,
    METRIC_CONFLICT,
    METRIC_TABLE,
    SEEN_CONFLICT,
    TASK_CONFLICT,
    TASK_LIST,
    TASK_TABLE,
    Contention,
    Database,
    SeenRow,
    Source,
    TaskRow,
)

_EVENT_LIST = ", ".join(EVENT_COLUMNS)
_AGENT = EVENT_COLUMNS.index("agent_id")
_TIMES = frozenset(index for index, column in enumerate(FACT_COLUMNS) if column.endswith("_at") or column == "eta")
_UTC_OFFSET = len("+00:00")
#: SQLite takes at most 32,766 parameters in a statement.
_CHUNK = 5000


def _time(moment: datetime) -> str:
    """Return a time as Django stores it in SQLite; all times of the store are UTC."""
    return str(moment)[:-_UTC_OFFSET]


def _plain(row: Iterable[Any]) -> list[Any]:
    return [_time(value) if type(value) is datetime else value for value in row]


def _moment(value: str | datetime | None) -> datetime | None:
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _values(count: int) -> str:
    return "(" + ", ".join(["%s"] * count) + ")"


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
            cursor.executemany(
                f"INSERT INTO {EVENT_TABLE} ({_EVENT_LIST}) VALUES {_values(len(EVENT_COLUMNS))} "  # noqa: S608
                "ON CONFLICT (id) DO NOTHING",
                agent_rows,
            )
            counts[agent] = max(0, cursor.rowcount)
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
                    f"WHERE project_id = %s AND engine = %s AND task_id IN {_values(len(part))}",
                    [project, engine, *part],
                )
                for task_id, revision, *facts in cursor.fetchall():
                    values = (_moment(v) if index in _TIMES else v for index, v in enumerate(facts))
                    yield (project, engine, task_id), revision, tuple(values)

    def upsert_tasks(self, cursor: CursorWrapper, rows: Sequence[TaskRow], *, certain: bool) -> list[TaskKey]:
        """Upsert row by row. They were read in this transaction, so none of them can have changed."""
        cursor.executemany(
            f"INSERT INTO {TASK_TABLE} ({TASK_LIST}) VALUES {_values(len(TASK_COLUMNS))} {TASK_CONFLICT}",  # noqa: S608
            [_plain(row) for row in rows],
        )
        if cursor.rowcount != len(rows):
            raise Contention(f"{len(rows) - cursor.rowcount} tasks changed inside a transaction")
        return []

    def add_metrics(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add row by row."""
        cursor.executemany(
            f"INSERT INTO {METRIC_TABLE} (project_id, minute, measure, engine, queue, name, bucket, count) "  # noqa: S608
            f"VALUES {_values(8)} {METRIC_CONFLICT}",
            [_plain(row) for row in rows],
        )

    def touch_seen(self, cursor: CursorWrapper, table: str, rows: Sequence[SeenRow], now: datetime) -> None:
        """Insert or touch row by row."""
        moment = _time(now)
        cursor.executemany(
            f"INSERT INTO {table} (project_id, engine, name, first_seen_at, last_seen_at) "  # noqa: S608
            f"VALUES {_values(5)} {SEEN_CONFLICT}",
            [[*row, moment, moment] for row in rows],
        )

    def add_visible(self, cursor: CursorWrapper, counts: Sequence[tuple[str, int]]) -> None:
        """Add row by row."""
        cursor.executemany(
            f"UPDATE {AGENT_TABLE} SET visible = visible + %s WHERE id = %s",  # noqa: S608
            [(count, agent) for agent, count in counts],
        )
