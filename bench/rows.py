"""Rows as the writer hands them to a database, and the barest way to put them there."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import django
import psycopg

from bench.load import payloads

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "z4j_project.settings")
os.environ.setdefault("Z4J_HOME", tempfile.mkdtemp(prefix="z4jrows"))
django.setup()

from brain.ingest import Batch, Source
from brain.ingest.postgresql import copy_lines, copy_statement
from brain.ingest.rows import EVENT_COLUMNS, TASK_COLUMNS, task_row
from brain.ingest.sql import EVENT_TABLE, TASK_TABLE
from brain.ingest.sqlite import plain
from brain.ingest.store import statements_of
from brain.projection import join

#: Batches of 100 events in one transaction, about what the writer takes under load.
GROUP = 40
Group = tuple[list[Any], list[tuple[Any, ...]]]


def prepared(kind: str, groups: int) -> Iterator[Group]:
    """Yield the event rows and the task rows of groups."""
    statements, source = statements_of(kind), Source(UUID(int=1), UUID(int=2))
    for _ in range(groups):
        now, rows, told = datetime.now(UTC), {}, {}
        for payload, _ in payloads(100, GROUP):
            batch = Batch(source, 30, payload, now)
            batch.prepare(statements)
            assert batch.prepared is not None
            rows |= batch.prepared.rows
            for key, facts in batch.prepared.told.items():
                told[key] = join(told[key], facts) if key in told else facts
        yield [rows[key] for key in sorted(rows)], [task_row(key, told[key], now, 1) for key in sorted(told)]


def write_postgresql(url: str, groups: list[Group]) -> Callable[[], None]:
    """Return what writes the groups by COPY, a transaction each."""
    texts = [("\n".join(events), "\n".join(copy_lines(tasks))) for events, tasks in groups]

    def write() -> None:
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            for events, tasks in texts:
                with cursor.copy(copy_statement(EVENT_TABLE, EVENT_COLUMNS)) as copy:
                    copy.write(events)
                with cursor.copy(copy_statement(TASK_TABLE, TASK_COLUMNS)) as copy:
                    copy.write(tasks)
                connection.commit()

    return write


def write_sqlite(path: str, groups: list[Group]) -> Callable[[], None]:
    """Return what writes the groups with executemany, a transaction each."""

    def insert(table: str, columns: tuple[str, ...]) -> str:
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"

    rows = [(events, [plain(task) for task in tasks]) for events, tasks in groups]

    def write() -> None:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA synchronous=FULL")
        for events, tasks in rows:
            connection.executemany(insert(EVENT_TABLE, EVENT_COLUMNS), events)
            connection.executemany(insert(TASK_TABLE, TASK_COLUMNS), tasks)
            connection.commit()
        connection.close()

    return write
