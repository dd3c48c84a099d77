"""Day partitions of events on PostgreSQL: created ahead, repaired, dropped. On SQLite there is nothing to do."""

from __future__ import annotations

import dataclasses
import re
import time as clock
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from django.db import OperationalError, connection, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import CreateModel
from django.db.migrations.state import ProjectState
from django.utils import timezone

from brain.event_ids import floor, time_of
from brain.models import Event

AHEAD_DAYS = 7
#: A drop waits for readers of the whole table, and everyone waits behind it: not for longer than this, but repeatedly.
DROP_TIMEOUT_MS = 500
DROP_TRIES = 10
_NAME = re.compile(r"^(?P<table>\w+)_d(?P<day>\d{8})$")
_LOCK_NOT_AVAILABLE = "55P03"


@dataclasses.dataclass(frozen=True, slots=True)
class Partition:
    """One partition: its day (None for the default one), estimated rows, bytes with its indexes."""

    name: str
    day: date | None
    rows: int
    size: int


class CreatePartitionedModel(CreateModel):
    """``CreateModel`` whose table is range-partitioned by its primary key on PostgreSQL, with a default partition."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Create the table; elsewhere than on PostgreSQL an ordinary one."""
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.name)
        table, key = model._meta.db_table, model._meta.pk.column
        original = schema_editor.sql_create_table
        schema_editor.sql_create_table = f"{original} PARTITION BY RANGE ({schema_editor.quote_name(key)})"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.sql_create_table = original
        schema_editor.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")


def listing() -> list[Partition]:
    """Return all partitions, the default one first, then by day; empty on SQLite."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid) "
            "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
            [Event._meta.db_table],
        )
        found = [Partition(name, _day_of(name), rows, size) for name, rows, size in cursor.fetchall()]
    return sorted(found, key=lambda partition: (partition.day is not None, partition.day or date.min))


def _day_of(name: str) -> date | None:
    match = _NAME.match(name)
    return datetime.strptime(match["day"], "%Y%m%d").replace(tzinfo=UTC).date() if match else None


def existing() -> list[date]:
    """Return the days that have a partition, oldest first; empty on SQLite."""
    return [partition.day for partition in listing() if partition.day is not None]


def create_ahead(today: date | None = None, days: int = AHEAD_DAYS) -> list[date]:
    """Create the partitions from yesterday to ``days`` ahead that are missing; return their days."""
    today = today or timezone.now().date()
    return _create_missing(today + timedelta(days=offset) for offset in range(-1, days + 1))


def empty_default() -> list[date]:
    """Create the partitions of the days that events of the default one belong to; return those days.

    Late events of days before the first start, or of a time when nobody created ahead, come to lie there.
    """
    return _create_missing(_days_in_default())


def _create_missing(days: Iterator[date]) -> list[date]:
    if connection.vendor != "postgresql":
        return []
    known = set(existing())
    missing = sorted(set(days) - known)
    for day in missing:
        _create(day)
    return missing


def _days_in_default() -> Iterator[date]:
    """Return each day of which the default partition holds an event, by one look-up a day."""
    if connection.vendor != "postgresql":
        return
    after: UUID | str = UUID(int=0)
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT id FROM {Event._meta.db_table}_default WHERE id >= %s ORDER BY id LIMIT 1",  # noqa: S608
                [after],
            )
            row = cursor.fetchone()
        if row is None:
            return
        day = time_of(row[0]).date()
        yield day
        _, after = _bounds(day)


def in_default() -> int:
    """Return how many events the default partition holds; 0 on SQLite."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {Event._meta.db_table}_default")  # noqa: S608
        return int(cursor.fetchone()[0])


def _bounds(day: date) -> tuple[str, str]:
    start = datetime.combine(day, time.min, UTC)
    return str(floor(start)), str(floor(start + timedelta(days=1)))


def _create(day: date) -> None:
    """Create one day: build it, move its rows out of the default partition, attach it."""
    table = Event._meta.db_table
    name = f"{table}_d{day:%Y%m%d}"
    start, end = _bounds(day)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        # Two brains may come here at once: the second waits for the first, then finds the table.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [table])
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone()[0] is not None:
            return
        cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        # From here to the commit nothing may be added to the default partition for this day.
        cursor.execute(f"LOCK TABLE {table}_default IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {table}_default WHERE id >= %s AND id < %s RETURNING *) "  # noqa: S608
            f"INSERT INTO {name} SELECT * FROM moved",
            [start, end],
        )
        cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')")


def drop_before(day: date) -> list[date]:
    """Drop the partitions of days before ``day``; return the days. One that is in use stays for the next turn."""
    return [old for old in existing() if old < day and _drop(old)]


def _drop(day: date) -> bool:
    for turn in range(DROP_TRIES):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {DROP_TIMEOUT_MS}")
                cursor.execute(f"DROP TABLE IF EXISTS {Event._meta.db_table}_d{day:%Y%m%d}")
            return True
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != _LOCK_NOT_AVAILABLE:
                raise
            clock.sleep(0.1 * (turn + 1))
    return False
