"""What is past its project's retention goes: events, tasks, counters, quarantine. In steps that hold nobody up."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from brain import partitions
from brain.event_ids import floor
from brain.models import Event, MetricMinute, Project, Quarantine, Task

#: Seconds one step may hold SQLite's write lock; its size follows from what the last one took.
STEP_SECONDS = 0.005
MIN_STEP, FIRST_STEP, MAX_STEP = 20, 200, 5000


@dataclasses.dataclass(frozen=True, slots=True)
class Removed:
    """How much went: day partitions, and rows of each kind."""

    days: int = 0
    events: int = 0
    tasks: int = 0
    counters: int = 0
    quarantined: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.days + self.events + self.tasks + self.counters + self.quarantined


def remove_expired(now: datetime | None = None) -> Removed:
    """Remove what is past retention.

    On PostgreSQL a day is dropped whole when it is past the longest retention of all projects; a project with a
    shorter one loses its rows of the days that stay.
    """
    now = now or timezone.now()
    projects = list(Project.objects.all())
    days = _drop_days(projects, now)
    return Removed(
        days=days,
        events=sum(_events(project, now) for project in projects),
        tasks=sum(_tasks(project, now) for project in projects),
        counters=sum(_counters(project, now) for project in projects),
        quarantined=sum(_quarantined(project, now) for project in projects),
    )


def _drop_days(projects: list[Project], now: datetime) -> int:
    if not projects:
        return 0
    longest = max(project.event_retention_days for project in projects)
    return len(partitions.drop_before((now - timedelta(days=longest)).date()))


def _events(project: Project, now: datetime) -> int:
    # At midnight, as ingest clamps: an event that came too late for its own day stays until that one goes.
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    cut = floor(midnight - timedelta(days=project.event_retention_days))
    rows = Event.objects.filter(project=project, id__lt=cut)

    def step(size: int, after: object) -> list[object]:
        following = rows if after is None else rows.filter(id__gt=after)
        return list(following.order_by("id").values_list("id", flat=True)[:size])

    return _in_steps(rows, step)


def _tasks(project: Project, now: datetime) -> int:
    """Remove tasks that began and were last told of before the cut."""
    cut = now - timedelta(days=project.task_retention_days)
    rows = Task.objects.filter(project=project, created_at__lt=cut, updated_at__lt=cut)

    def step(size: int, after: object) -> list[object]:
        return list(rows.order_by("created_at").values_list("pk", flat=True)[:size])

    return _in_steps(rows, step)


def _counters(project: Project, now: datetime) -> int:
    rows = MetricMinute.objects.filter(project=project, minute__lt=now - timedelta(days=project.metric_retention_days))

    def step(size: int, after: object) -> list[object]:
        return list(rows.order_by("minute").values_list("pk", flat=True)[:size])

    return _in_steps(rows, step)


def _quarantined(project: Project, now: datetime) -> int:
    """Remove quarantined content with the events of its time."""
    rows = Quarantine.objects.filter(
        project=project, received_at__lt=now - timedelta(days=project.event_retention_days)
    )

    def step(size: int, after: object) -> list[object]:
        return list(rows.order_by("pk").values_list("pk", flat=True)[:size])

    return _in_steps(rows, step)


def _in_steps(rows: QuerySet, step: Callable[[int, object], list[object]]) -> int:
    """Delete those of ``rows`` whose keys ``step(size, last key)`` returns until it returns none; return how many.

    The keys are found before the write lock is taken, and between two steps others get their turn. What was changed
    meanwhile so that it is no more among ``rows`` stays.
    """
    gone, size, last = 0, FIRST_STEP, None
    while keys := step(size, last):
        began = time.monotonic()
        with transaction.atomic():
            gone += rows.filter(pk__in=keys).delete()[0]
        took = time.monotonic() - began
        last = keys[-1]
        size = max(MIN_STEP, min(MAX_STEP, int(size * min(2.0, STEP_SECONDS / max(took, 1e-4)))))
        if connection.vendor == "sqlite":
            _make_way()
    return gone


def _make_way() -> None:
    """Copy into the database file what the step wrote, so that no commit of the ingest has to; then pause."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
    time.sleep(2 * STEP_SECONDS)
