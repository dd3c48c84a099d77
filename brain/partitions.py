"""Day partitions of events on PostgreSQL: create ahead, drop what is past retention. On SQLite deletes in chunks."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import CreateModel
from django.db.migrations.state import ProjectState
from django.utils import timezone

from brain.event_ids import floor
from brain.models import Event, Project

AHEAD_DAYS = 7
CHUNK = 500
_NAME = re.compile(r"^(?P<table>\w+)_d(?P<day>\d{8})$")


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


def _bounds(day: date) -> tuple[str, str]:
    start = datetime.combine(day, time.min, UTC)
    return str(floor(start)), str(floor(start + timedelta(days=1)))


def existing() -> list[date]:
    """Return the days that have a partition, oldest first; empty on SQLite."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = %s::regclass",
            [Event._meta.db_table],
        )
        names = [row[0] for row in cursor.fetchall()]
    found = (match["day"] for name in names if (match := _NAME.match(name)))
    return sorted(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date() for day in found)


def create_ahead(today: date | None = None, days: int = AHEAD_DAYS) -> list[date]:
    """Create the partitions from yesterday to ``days`` ahead that are missing; return their days."""
    if connection.vendor != "postgresql":
        return []
    today = today or timezone.now().date()
    wanted = [today + timedelta(days=offset) for offset in range(-1, days + 1)]
    missing = [day for day in wanted if day not in set(existing())]
    for day in missing:
        _create(day)
    return missing


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
        cursor.execute(
            f"WITH moved AS (DELETE FROM {table}_default WHERE id >= %s AND id < %s RETURNING *) "  # noqa: S608
            f"INSERT INTO {name} SELECT * FROM moved",
            [start, end],
        )
        cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')")


def drop_expired(now: datetime | None = None) -> int:
    """Remove events past their project's retention; return how many partitions or rows went.

    A day is dropped when it is past the longest retention; a project with a shorter one loses its rows of the days
    that stay.
    """
    now = now or timezone.now()
    gone = _drop_days(now)
    for project in Project.objects.all():
        cut = floor(now - timedelta(days=project.event_retention_days))
        gone += _delete_chunks(project_id=project.id, id__lt=cut)
    return gone


def _drop_days(now: datetime) -> int:
    longest = max(Project.objects.values_list("event_retention_days", flat=True), default=None)
    if longest is None:
        return 0
    last = (now - timedelta(days=longest + 1)).date()
    expired = [day for day in existing() if day < last]
    for day in expired:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {Event._meta.db_table}_d{day:%Y%m%d}")
    return len(expired)


def _delete_chunks(**conditions: Any) -> int:
    gone = 0
    while ids := list(Event.objects.filter(**conditions).order_by("id").values_list("id", flat=True)[:CHUNK]):
        Event.objects.filter(id__in=ids).delete()
        gone += len(ids)
    return gone
