"""PostgreSQL: COPY into temporary tables, then one statement a table, on Django's own connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection
from django.db.backends.utils import CursorWrapper

from brain.ingest.decode import Incoming
from brain.ingest.rows import EVENT_COLUMNS, TASK_COLUMNS, TaskKey
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
    AlreadyThere,
    Database,
    SeenRow,
    Source,
    TaskRow,
)

_EVENT_LIST = ", ".join(EVENT_COLUMNS)
_UNIQUE_VIOLATION = "23505"
_REVISION = TASK_COLUMNS.index("revision")
#: COPY's csv form with control characters nobody types, so that hardly a value needs quotes; an absent value is empty.
_DELIMITER, _QUOTE = "\x1f", "\x1e"
_NULLABLE = {
    "seq", "priority", "published_at", "queued_at", "received_at", "eta", "started_at", "last_started_at",
    "finished_at", "told_run_ms", "run_ms", "wait_ms", "replayable",
}  # fmt: skip


def copy_line(values: Sequence[str]) -> str:
    """Return one line of COPY's csv form."""
    line = _DELIMITER.join(values)
    if "\n" in line or "\r" in line or _QUOTE in line or line.count(_DELIMITER) != len(values) - 1:
        return _DELIMITER.join([_quoted(value) if value else "" for value in values])
    return line


def _quoted(value: str) -> str:
    return f"{_QUOTE}{value.replace(_QUOTE, _QUOTE + _QUOTE)}{_QUOTE}"


def copy_lines(rows: Sequence[TaskRow]) -> list[str]:
    """Return the lines of rows."""
    return [copy_line([v if type(v) is str else "" if v is None else str(v) for v in row]) for row in rows]


def copy_statement(table: str, columns: Sequence[str]) -> str:
    """Return the statement that takes lines of these columns."""
    texts = ", ".join(column for column in columns if column not in _NULLABLE)
    return (
        f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT csv, DELIMITER '{_DELIMITER}', QUOTE '{_QUOTE}', "
        f"FORCE_NOT_NULL ({texts}))"
    )


def _copy(cursor: CursorWrapper, table: str, columns: Sequence[str], lines: Sequence[str]) -> None:
    """Write lines into a table. Raises :class:`AlreadyThere` for a key that is taken, and the database's errors."""
    try:
        # Django does not translate the errors of a COPY by itself.
        with connection.wrap_database_errors, cursor.copy(copy_statement(table, columns)) as copy:
            copy.write("\n".join(lines))
    except IntegrityError as error:
        if getattr(error.__cause__, "sqlstate", "") == _UNIQUE_VIOLATION:
            raise AlreadyThere from error
        raise


def _stage(cursor: CursorWrapper, table: str, columns: Sequence[str], lines: Sequence[str]) -> str:
    """Write lines into a temporary table of the same columns and return its name."""
    stage = f"stage_{table}"
    cursor.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS "  # noqa: S608 - names are constants
        f"SELECT {', '.join(columns)} FROM {table} WITH NO DATA"
    )
    cursor.execute(f"DELETE FROM {stage}")  # noqa: S608 - names are constants
    _copy(cursor, stage, columns, lines)
    return stage


class PostgreSQL(Database):
    """Everything is written in key order, so that two brains never wait for each other in a circle."""

    remembers = True

    def time(self, moment: datetime) -> str:
        """Return it in ISO 8601."""
        return str(moment)

    def event_row(self, source: Source, event: Incoming, received_at: str) -> str:
        """Return a line for COPY."""
        told = event.told
        return copy_line(
            (
                event.id, source.project, source.agent, event.engine, event.kind, event.task_id,
                told.task_name or "", told.queue or "", told.worker or "", str(event.occurred_at), received_at,
                "" if told.seq is None else str(told.seq), event.flags, event.payload,
            )
        )  # fmt: skip

    def insert_events(self, cursor: CursorWrapper, rows: Mapping[str, Any], *, certain: bool) -> dict[str, int] | None:
        """COPY straight in, or stage and insert; the id alone decides whether an event is there already."""
        lines = [rows[identifier] for identifier in sorted(rows)]
        if certain:
            _copy(cursor, EVENT_TABLE, EVENT_COLUMNS, lines)
            return None
        stage = _stage(cursor, EVENT_TABLE, EVENT_COLUMNS, lines)
        cursor.execute(
            f"WITH new AS (INSERT INTO {EVENT_TABLE} ({_EVENT_LIST}) "  # noqa: S608 - names are constants
            f"SELECT {_EVENT_LIST} FROM {stage} ORDER BY id "
            "ON CONFLICT DO NOTHING RETURNING agent_id) SELECT agent_id, count(*) FROM new GROUP BY agent_id"
        )
        return {agent_id.hex: count for agent_id, count in cursor.fetchall()}

    def load_tasks(
        self, cursor: CursorWrapper, keys: Sequence[TaskKey]
    ) -> Iterable[tuple[TaskKey, int, tuple[Any, ...]]]:
        """Read by key.

        The fence (OFFSET 0) makes it one index look-up a key, whatever the statistics of a growing table say.
        """
        facts = ", ".join(f"t.{column}" for column in FACT_LIST.split(", "))
        cursor.execute(
            f"SELECT k.project_id, k.engine, k.task_id, t.revision, {facts} "  # noqa: S608
            "FROM unnest(%s::text[], %s::text[], %s::text[]) AS k(project_id, engine, task_id) CROSS JOIN LATERAL ("
            f"SELECT * FROM {TASK_TABLE} "
            "WHERE project_id = k.project_id::uuid AND engine = k.engine AND task_id = k.task_id OFFSET 0) AS t",
            [list(column) for column in zip(*keys, strict=True)],
        )
        for row in cursor.fetchall():
            yield (row[0], row[1], row[2]), row[3], row[4:]

    def upsert_tasks(self, cursor: CursorWrapper, rows: Sequence[TaskRow], *, certain: bool) -> list[TaskKey]:
        """COPY what is new straight in; stage the rest and upsert it, which also locks the rows it does not change."""
        if certain:
            new = [row for row in rows if row[_REVISION] == 1]
            rows = [row for row in rows if row[_REVISION] > 1]
            if new:
                _copy(cursor, TASK_TABLE, TASK_COLUMNS, copy_lines(new))
        if not rows:
            return []
        stage = _stage(cursor, TASK_TABLE, TASK_COLUMNS, copy_lines(rows))
        cursor.execute(
            f"WITH done AS (INSERT INTO {TASK_TABLE} ({TASK_LIST}) SELECT {TASK_LIST} FROM {stage} "  # noqa: S608
            f"ORDER BY project_id, engine, task_id {TASK_CONFLICT} RETURNING project_id, engine, task_id) "
            f"SELECT s.project_id, s.engine, s.task_id FROM {stage} s WHERE NOT EXISTS (SELECT FROM done d "
            "WHERE d.project_id = s.project_id AND d.engine = s.engine AND d.task_id = s.task_id)"
        )
        return [(project_id.hex, engine, task_id) for project_id, engine, task_id in cursor.fetchall()]

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

    def add_visible(self, cursor: CursorWrapper, counts: Sequence[tuple[str, int]]) -> None:
        """Lock the rows in order, then add with one statement."""
        columns = [list(column) for column in zip(*counts, strict=True)]
        cursor.execute(
            f"WITH told AS (SELECT * FROM unnest(%s::uuid[], %s::bigint[]) AS s(agent_id, fresh)), held AS ("  # noqa: S608
            f"SELECT id FROM {AGENT_TABLE} WHERE id IN (SELECT agent_id FROM told) ORDER BY id FOR UPDATE) "
            f"UPDATE {AGENT_TABLE} a SET visible = a.visible + told.fresh "
            "FROM held JOIN told ON told.agent_id = held.id WHERE a.id = held.id",
            columns,
        )
