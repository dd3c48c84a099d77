"""Partitions: created ahead, dropped when past retention; on SQLite the same days go row by row."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from brain import partitions
from brain.models import Event
from tests.conftest import NOW, event, life

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]
postgres_only = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="partitions are PostgreSQL's")


@pytest.fixture(autouse=True)
def no_partitions():
    """Begin and end without day partitions: they outlive the rollback of a test."""

    def drop() -> None:
        with connection.cursor() as cursor:
            for day in partitions.existing():
                cursor.execute(f"DROP TABLE z4j_brain_event_d{day:%Y%m%d}")

    drop()
    yield
    drop()


@postgres_only
def test_days_are_created_ahead_and_take_their_rows_out_of_the_default(ingest):
    first = life("t1")
    ingest(first)
    created = partitions.create_ahead(NOW.date())
    assert len(created) == 9
    assert partitions.create_ahead(NOW.date()) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM z4j_brain_event_default")
        assert cursor.fetchone()[0] == 0
    ingest(first, life("t2"))
    assert Event.objects.count() == 8


@postgres_only
def test_a_bounded_window_opens_one_partition(ingest):
    partitions.create_ahead(NOW.date())
    plan = Event.objects.between(NOW, NOW + timedelta(minutes=1)).explain()
    assert plan.count("z4j_brain_event_d") <= 2, plan
    assert "default" not in plan


@postgres_only
def test_an_expired_day_is_dropped_whole(ingest, project):
    old = NOW - timedelta(days=40)
    partitions.create_ahead(old.date(), days=0)
    project.event_retention_days = 30
    project.save()
    assert partitions.drop_expired(NOW) == 2
    assert partitions.existing() == []


def test_events_past_their_projects_retention_go_and_others_stay(ingest, project):
    ingest([event("sent", "old", at=-20 * 86400), event("sent", "new")])
    project.event_retention_days = 7
    project.save()
    partitions.drop_expired(NOW)
    assert [row.task_id for row in Event.objects.all()] == ["new"]
