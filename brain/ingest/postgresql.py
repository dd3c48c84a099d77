"""PostgreSQL: COPY into temporary tables, then one statement a table, on Django's own connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper

from brain.ingest.rows import EVENT_COLUMNS, TASK_COLUMNS, TaskKey
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


class PostgreSQL(Database):
    """Everything is written in key order, so that two brains never wait for each other in a circle."""

    def _copy(self, cursor: CursorWrapper, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
        stage = f"stage_{table}"
        listed = ", ".join(columns)
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS "  # noqa: S608 - constants of rows.py
            f"SELECT {listed} FROM {table} WITH NO DATA"
        )
        cursor.execute(f"DELETE FROM {stage}")  # noqa: S608 - names are constants of this module
        # Django does not translate the errors of a COPY by itself.
        with connection.wrap_database_errors, cursor.copy(f"COPY {stage} ({listed}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return stage

    def insert_events(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> dict[UUID, int]:
        """Stage and insert; the id alone decides whether an event is there already."""
        stage = self._copy(cursor, EVENT_TABLE, EVENT_COLUMNS, rows)
        cursor.execute(
            f"WITH new AS (INSERT INTO {EVENT_TABLE} ({_EVENT_LIST}) "  # noqa: S608
            f"SELECT {_EVENT_LIST} FROM {stage} ORDER BY id "
            "ON CONFLICT DO NOTHING RETURNING agent_id) SELECT agent_id, count(*) FROM new GROUP BY agent_id"
        )
        return dict(cursor.fetchall())

    def load_tasks(
        self, cursor: CursorWrapper, keys: Sequence[TaskKey], *, lock: bool
    ) -> Iterable[tuple[TaskKey, int, tuple[Any, ...]]]:
        """Read by key; with ``lock`` in key order and for update.

        The fence (OFFSET 0) makes it one index look-up a key, whatever the statistics of a growing table say.
        """
        facts = ", ".join(f"t.{column}" for column in FACT_LIST.split(", "))
        cursor.execute(
            f"SELECT k.project_id, k.engine, k.task_id, t.revision, {facts} "  # noqa: S608
            "FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS k(project_id, engine, task_id) CROSS JOIN LATERAL ("
            f"SELECT * FROM {TASK_TABLE} WHERE project_id = k.project_id AND engine = k.engine AND task_id = k.task_id "
            f"OFFSET 0 {'FOR UPDATE' if lock else ''}) AS t",
            [list(column) for column in zip(*keys, strict=True)],
        )
        for row in cursor.fetchall():
            yield (row[0], row[1], row[2]), row[3], row[4:]

    def upsert_tasks(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> int:
        """Stage and upsert in one statement."""
        stage = self._copy(cursor, TASK_TABLE, TASK_COLUMNS, rows)
        cursor.execute(
            f"INSERT INTO {TASK_TABLE} ({TASK_LIST}) SELECT {TASK_LIST} FROM {stage} "  # noqa: S608
            f"ORDER BY project_id, engine, task_id {TASK_CONFLICT}"
        )
        return int(cursor.rowcount)

    def add_metrics(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add with one statement over arrays."""
        cursor.execute(
            f"INSERT INTO {METRIC_TABLE} (project_id, minute, measure, engine, queue, name, bucket, count) "  # noqa: S608
            "SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], "
            f"%s::smallint[], %s::bigint[]) {METRIC_CONFLICT}",
            [list(column) for column in zip(*rows, strict=True)],
        )

    def touch_seen(self, cursor: CursorWrapper, table: str, rows: Sequence[SeenRow], now: datetime) -> None:
        """Insert or touch with one statement over arrays."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        cursor.execute(
            f"INSERT INTO {table} (project_id, engine, name, first_seen_at, last_seen_at) "  # noqa: S608
            f"SELECT p, e, n, %s, %s FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS s(p, e, n) {SEEN_CONFLICT}",
            [now, now, *columns],
        )
