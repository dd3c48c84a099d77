"""Partitions: created ahead, dropped when past retention; on SQLite the same days go row by row."""

from __future__ import annotations

import io
import json
import threading
import time
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from brain import partitions, retention
from brain.ingest import Batch, Committer, Source
from brain.models import Event, MetricMinute, Quarantine, Task
from tests.conftest import NOW, event, life, payload

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
def test_an_expired_day_is_dropped_whole(project):
    old = NOW - timedelta(days=40)
    partitions.create_ahead(old.date(), days=0)
    partitions.create_ahead(NOW.date())
    assert retention.remove_expired(NOW).days == 2
    assert partitions.existing()[0] == NOW.date() - timedelta(days=1)


@postgres_only
def test_the_longest_retention_keeps_a_day_and_the_shorter_loses_its_rows(ingest, project, elsewhere):
    days_ago = NOW - timedelta(days=20)
    partitions.create_ahead(days_ago.date(), days=0)
    ingest([event("sent", "short", at=-20 * 86400), event("sent", "new")])
    theirs = Event.objects.get(task_id="short")
    theirs.id, theirs.project_id, theirs.task_id = UUID(int=theirs.id.int + 1), elsewhere.id, "long"
    theirs.save(force_insert=True)
    project.event_retention_days = 7
    project.save()
    removed = retention.remove_expired(NOW)
    assert (removed.days, removed.events) == (0, 1)
    assert sorted(Event.objects.values_list("task_id", flat=True)) == ["long", "new"]
    elsewhere.event_retention_days = 7
    elsewhere.save()
    assert retention.remove_expired(NOW).days == 2
    assert Event.objects.get().task_id == "new"


@postgres_only
def test_days_nobody_created_are_found_in_the_default_partition_and_emptied(ingest, project):
    partitions.create_ahead(NOW.date())
    ingest([event("sent", f"t{day}", at=-day * 86400) for day in (0, 3, 3, 9)])
    assert partitions.in_default() == 3
    assert partitions.empty_default() == [(NOW - timedelta(days=day)).date() for day in (9, 3)]
    assert partitions.in_default() == 0
    assert Event.objects.count() == 4
    assert partitions.empty_default() == []


@postgres_only
def test_a_day_that_is_being_read_is_dropped_on_a_later_turn(project, monkeypatch):
    monkeypatch.setattr(partitions, "DROP_TIMEOUT_MS", 50)
    monkeypatch.setattr(partitions, "DROP_TRIES", 1)
    old = (NOW - timedelta(days=40)).date()
    partitions.create_ahead(old, days=0)
    reading, done = threading.Event(), threading.Event()

    def read() -> None:
        try:
            with transaction.atomic():
                Event.objects.count()
                reading.set()
                done.wait(10)
        finally:
            connection.close()

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait(10)
    assert partitions.drop_before(NOW.date()) == []
    done.set()
    reader.join()
    assert len(partitions.drop_before(NOW.date())) == 2


def test_events_past_their_projects_retention_go_and_others_stay(ingest, project):
    ingest([event("sent", "old", at=-20 * 86400), event("sent", "new")])
    project.event_retention_days = 7
    project.save()
    assert retention.remove_expired(NOW).events == 1
    assert [row.task_id for row in Event.objects.all()] == ["new"]


def test_tasks_and_counters_have_their_own_retention(ingest, project):
    ingest(life("old", at=-20 * 86400), life("new"))
    ingest([{"broken": 1}])
    Task.objects.filter(task_id="old").update(updated_at=NOW - timedelta(days=20))
    Quarantine.objects.update(received_at=NOW - timedelta(days=31))
    project.metric_retention_days = 10
    project.save()
    removed = retention.remove_expired(NOW)
    assert (removed.events, removed.tasks, removed.quarantined) == (0, 0, 1)
    assert removed.counters > 0
    assert not MetricMinute.objects.filter(minute__lt=NOW - timedelta(days=10)).exists()
    assert MetricMinute.objects.exists()
    project.task_retention_days = 10
    project.save()
    assert retention.remove_expired(NOW).tasks == 1
    assert Task.objects.get().task_id == "new"
    assert Event.objects.filter(task_id="old").count() == 4


def test_a_task_that_is_told_of_while_it_is_being_removed_stays(ingest, project, monkeypatch):
    ingest([event("sent", "old", at=-20 * 86400)])
    Task.objects.update(created_at=NOW - timedelta(days=20), updated_at=NOW - timedelta(days=20))
    project.task_retention_days = 10
    project.save()
    atomic = retention.transaction.atomic

    def told_meanwhile():
        monkeypatch.setattr(retention.transaction, "atomic", atomic)
        ingest([event("started", "old", at=1)])
        return atomic()

    monkeypatch.setattr(retention.transaction, "atomic", told_meanwhile)
    assert retention.remove_expired(NOW).tasks == 0
    assert Task.objects.get().state == "started"


@postgres_only
def test_an_event_that_meets_the_making_of_its_partition_is_stored(agent, project):
    partitions.create_ahead(NOW.date())
    source, late = Source(agent.agent.project_id, agent.agent.id), NOW - timedelta(days=9)
    begun = threading.Event()

    def attach() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("LOCK TABLE z4j_brain_event_default IN SHARE ROW EXCLUSIVE MODE")
                begun.set()
                time.sleep(0.5)
                partitions._create(late.date())
        finally:
            connection.close()

    maker = threading.Thread(target=attach)
    maker.start()
    begun.wait(10)
    batch = Batch(source, 30, payload([event("sent", "late", at=-9 * 86400)]), NOW)
    Committer().commit([batch])
    maker.join()
    assert (batch.verdict.accepted, batch.verdict.rejected) == (1, 0)
    assert Event.objects.get().task_id == "late"


def test_many_rows_go_in_steps(ingest, project, monkeypatch):
    monkeypatch.setattr(retention, "FIRST_STEP", 7)
    monkeypatch.setattr(retention, "MAX_STEP", 7)
    ingest([event("sent", f"t{n}", at=-20 * 86400) for n in range(40)])
    project.event_retention_days = 7
    project.save()
    assert retention.remove_expired(NOW).events == 40


def test_the_command_shows_and_repairs(ingest, project):
    ingest([event("sent", "old", at=-20 * 86400), event("sent", "new")])
    project.event_retention_days = 7
    project.save()
    on_postgres = connection.vendor == "postgresql"
    before = run("--json")
    assert ("in_default" in before) is on_postgres
    if on_postgres:
        assert (before["in_default"], len(before["missing"])) == (2, 8)
        assert "run: z4j partitions --repair" in text()
    after = run("--json", "--repair")
    assert after["repaired"]["events"] + after["repaired"]["days"] >= 1
    if on_postgres:
        assert (after["in_default"], after["missing"]) == (0, [])
        states = [row["state"] for row in after["partitions"]]
        assert states.count("today") == 1
        assert states.count("ahead") == 7
        assert "about rows" in text()
    else:
        assert after["oldest"].startswith(str(NOW.date()))
        assert "no partitions" in text()


def text(*arguments: str) -> str:
    out = io.StringIO()
    call_command("partitions", *arguments, stdout=out)
    return out.getvalue()


def run(*arguments: str) -> dict:
    return json.loads(text(*arguments))
