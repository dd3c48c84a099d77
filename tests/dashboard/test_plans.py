"""What the database does for a page: which indexes and partitions it opens, how many rows it reads.

The tables are a model of large ones: the caps of the pages are scaled down with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test import Client

from brain import partitions, tokens
from brain.event_ids import floor
from brain.models import Event, MetricMinute, Project, Queue, Task, TaskName, User
from dashboard import search
from dashboard.filters import Cursor
from dashboard.pages import overview
from dashboard.pages import tasks as task_list

pytestmark = [pytest.mark.storage, pytest.mark.django_db]
TASKS, MINUTES, NOW = 24_000, 3_000, datetime.now(UTC)
#: Rows a query of a page may read, of the tasks and of the counters.
BOUND = 1_000
LARGE = (Task._meta.db_table, Event._meta.db_table, MetricMinute._meta.db_table)


@pytest.fixture(autouse=True)
def scaled(monkeypatch):
    """Caps in proportion to the tables."""
    for module, name, value in (
        (search, "STEP", 200), (search, "LOOKED_THROUGH", 600), (search, "SECONDS", 3600),
        (task_list, "COUNT_CAP", 500), (task_list, "NEW_CAP", 300), (overview, "WAITING_CAP", 300),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


def task(project: Any, number: int) -> Task:
    """Return one of many tasks: seven of eight of ``shop``, one of fifty failed, one of a rare engine each 8,000."""
    rare = number % 8000 == 17
    moment = NOW - timedelta(minutes=TASKS - number)
    return Task(
        project=project, task_id=f"t{number}", engine="taskiq" if rare else ("celery", "celery", "rq")[number % 3],
        name="rare" if rare else f"n{number % 40}", queue="rare" if rare else f"q{number % 9}",
        state=("failed" if number % 50 == 7 else "pending" if number % 500 == 9 else "succeeded"),
        created_at=moment, updated_at=moment, finished_at=moment, args="x" * 100,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shop(django_db_setup, django_db_blocker):
    """A project with many tasks, two days of counters, a week of events; made once, undone after the module."""
    with django_db_blocker.unblock(), transaction.atomic():
        project = fill()
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        yield project
        transaction.set_rollback(True)


def fill() -> Project:
    project, elsewhere = (Project.objects.create(slug=slug, name=slug) for slug in ("shop", "elsewhere"))
    agent = tokens.mint(project, "web", by="test").agent
    Task.objects.bulk_create(task((project, elsewhere)[number % 8 == 0], number) for number in range(TASKS))
    TaskName.objects.bulk_create(
        TaskName(project=project, engine=engine, name=f"n{n}") for engine in ("celery", "rq") for n in range(40)
    )
    TaskName.objects.create(project=project, engine="taskiq", name="rare")
    Queue.objects.bulk_create(Queue(project=project, engine="celery", name=f"q{n}") for n in range(9))
    minute = NOW.replace(second=0, microsecond=0)
    MetricMinute.objects.bulk_create(
        MetricMinute(
            project=project, minute=minute - timedelta(minutes=age), engine="celery", queue=f"q{n % 9}", name=f"n{n}",
            measure=measure, bucket=n, count=1,
        )
        for age in range(MINUTES) for measure in ("succeeded", "started", "run", "wait") for n in range(6)
    )  # fmt: skip
    partitions.create_ahead(NOW.date() - timedelta(days=6), days=8)
    Event.objects.bulk_create(
        Event(
            id=UUID(int=floor(noon(number % 6)).int + number), project=project, agent=agent, engine="celery",
            kind="task.started", task_id=f"e{number // 3}", occurred_at=noon(number % 6), received_at=NOW,
        )
        for number in range(12_000)
    )  # fmt: skip
    return project


@pytest.fixture
def alice(shop):
    """The browser of somebody who may see everything."""
    user, _ = User.objects.get_or_create(email="alice@example.com", is_superuser=True)
    client = Client()
    client.force_login(user)
    return client


def noon(days_ago: int) -> datetime:
    return datetime.combine(NOW.date() - timedelta(days=days_ago), time(12), UTC)


class Plans:
    """The plans of all queries a page asks."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def of(self, url: str) -> list[tuple[str, Any]]:
        """Return (query, plan) of a page: PostgreSQL's tree with what was read, SQLite's lines."""
        asked: list[tuple[str, Any]] = []

        def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if sql.startswith("SELECT"):
                asked.append((sql, params))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(note):
            assert self._client.get(url).status_code == 200
        return [(sql, explain(sql, params)) for sql, params in asked if any(table in sql for table in LARGE)]


def explain(sql: str, params: Any) -> Any:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
            return [row[-1] for row in cursor.fetchall()]
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
        (plan,) = cursor.fetchone()
        return (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scans(plan: Any) -> list[dict[str, Any]]:
    """Return the parts of PostgreSQL's plan that read a large table and were carried out."""
    found = [node for node in nodes(plan) if node.get("Relation Name", "").startswith(LARGE)]
    return [node for node in found if node["Actual Loops"]]


def read(node: dict[str, Any]) -> float:
    """Return how many rows a part of a plan read."""
    filtered = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return (node["Actual Rows"] + filtered) * node["Actual Loops"]


def too_much(sql: str, plan: Any, bound: int = BOUND) -> list[str]:
    """Return what is wrong with a plan: tables read from end to end, or too many rows of them.

    A sequential scan that a limit stops early is not wrong; one that goes on reads many times the bound.
    """
    if connection.vendor == "sqlite":
        whole = re.compile(rf"SCAN ({'|'.join(LARGE)})\b")
        return [f"{line}: {sql}" for line in plan if whole.match(line)]
    return [
        f"{node['Node Type']} of {node['Relation Name']} read {read(node):.0f} rows: {sql}"
        for node in scans(plan)
        if read(node) > bound
    ]


def old(number: int = 9_000) -> str:
    found = Task.objects.get(task_id=f"t{number + 1}")
    return str(Cursor.of(found))


def test_no_page_of_the_list_reads_more_than_its_bound(alice):
    queries = [
        "", "order=oldest", f"after={old()}", f"after={old()}&order=oldest", "since=24h",
        "state=failed", f"state=failed&after={old()}", "state=waiting", "state=finished", "state=rejected",
        "engine=celery", "engine=taskiq", f"engine=taskiq&after={old()}", "queue=q3", f"queue=q3&after={old()}",
        "queue=rare", "name=n3", "name=rare", f"name=n3&after={old()}", "name=n3&state=failed",
        "name=n3&queue=q4", "queue=q3&engine=rq&state=failed", f"state=failed&engine=taskiq&after={old()}",
        "name=none", "queue=none&engine=rq", "q=n", f"q=n&after={old()}", "q=n3", "q=rare", "q=nonesuch",
        "q=n3&state=failed", "q=t9001", "q=t9001&state=failed&queue=q1",
    ]  # fmt: skip
    plans = Plans(alice)
    wrong = {
        query: [text for asked in plans.of(f"/p/shop/tasks/?{query}") for text in too_much(*asked)] for query in queries
    }
    assert {query: texts for query, texts in wrong.items() if texts} == {}


def test_nor_does_what_an_open_list_asks_again_and_again(alice):
    top = Task.objects.get(task_id="t5000").pk
    plans = Plans(alice)
    for query in ("", "name=n3&", "state=failed&", "engine=taskiq&state=failed&", "q=n&"):
        wrong = [text for asked in plans.of(f"/p/shop/tasks/live?{query}top={top}") for text in too_much(*asked)]
        assert wrong == []


@pytest.mark.parametrize("url", ["/p/shop/", "/p/shop/live", "/p/shop/chart.json"])
def test_the_overview_reads_the_counters_of_its_hour_only(alice, url):
    asked = Plans(alice).of(url)
    assert any(MetricMinute._meta.db_table in sql for sql, _ in asked)
    assert [text for sql, plan in asked for text in too_much(sql, plan)] == []


def test_a_task_page_reads_its_own_rows_from_the_partition_of_its_day(alice, shop):
    moment = noon(3)
    found = Task.objects.create(
        project=shop, engine="celery", task_id="e1", state="started", created_at=moment, updated_at=moment
    )
    asked = Plans(alice).of(f"/p/shop/tasks/{found.pk}/")
    assert [text for sql, plan in asked for text in too_much(sql, plan, bound=20)] == []
    (events,) = [plan for sql, plan in asked if Event._meta.db_table in sql]
    if connection.vendor == "postgresql":
        assert {node["Relation Name"] for node in scans(events)} == {f"{Event._meta.db_table}_d{moment:%Y%m%d}"}


def test_a_window_of_events_opens_the_partitions_of_its_days(shop):
    rows = Event.objects.between(noon(4), noon(3)).filter(kind="task.started")
    sql, params = rows.query.sql_with_params()
    plan = explain(sql, params)
    if connection.vendor == "postgresql":
        days = {f"{Event._meta.db_table}_d{noon(age):%Y%m%d}" for age in (3, 4)}
        assert {node["Relation Name"] for node in scans(plan)} == days
    else:
        assert [line for line in plan if line.startswith("SCAN")] == []
    assert rows.count() == 2_000
