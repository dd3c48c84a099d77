"""What a list finds when it has to look through tasks: all of it, in order, in bounded steps, and it says how far."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from brain.models import Task, TaskName
from dashboard import search as module
from dashboard.filters import Filters
from dashboard.search import Ordered, Walked, search
from tests.dashboard.test_tasks import LIST, live_url, older, shown, walk

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]
RARE = "state=failed&engine=rq"


@pytest.fixture
def small_steps(monkeypatch):
    """Look through six tasks a page, in steps of two, whatever the time."""
    monkeypatch.setattr(module, "STEP", 2)
    monkeypatch.setattr(module, "LOOKED_THROUGH", 6)
    monkeypatch.setattr(module, "SECONDS", 3600)


@pytest.fixture
def hundred(project):
    """A hundred tasks on two engines, three queues and names, five states; some of the same moment."""
    now = timezone.now()
    states = ("succeeded", "failed", "pending", "received", "started")
    for engine in ("celery", "rq"):
        TaskName.objects.bulk_create(TaskName(project=project, engine=engine, name=f"n{n}") for n in range(3))
    return Task.objects.bulk_create(
        Task(
            project=project,
            task_id=f"t{number}",
            engine=("celery", "rq")[number % 7 == 0],
            name=f"n{number % 3}",
            queue=f"q{number // 3 % 3}",
            state=states[number % 5],
            created_at=now - timedelta(minutes=number // 4),
            updated_at=now,
        )
        for number in range(100)
    )


QUERIES = [
    {"engine": "rq"},
    {"engine": "rq", "state": "failed"},
    {"name": "n1", "state": "failed"},
    {"name": "n1", "queue": "q2", "state": "waiting"},
    {"q": "n", "state": "finished"},
    {"q": "2", "queue": "q0", "engine": "celery"},
]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_walking_on_finds_every_task_once_and_in_order(alice, hundred, small_steps, query, order):
    kept = {"failed": ["failed"], "waiting": ["pending", "received"], "finished": ["succeeded", "failed"]}
    expected = [
        task
        for task in hundred
        if all(getattr(task, column) == value for column, value in query.items() if column not in {"q", "state"})
        and task.state in kept.get(query.get("state", ""), [task.state])
        and query.get("q", "") in task.name
    ]
    assert len(expected) > 1
    expected.sort(key=lambda task: (task.created_at, task.pk), reverse=order == "newest")
    asked = "&".join(f"{name}={value}" for name, value in {**query, "order": order}.items())
    assert walk(alice, f"{LIST}?{asked}") == [task.task_id for task in expected]


def test_many_names_are_looked_up_together(project, hundred, monkeypatch):
    monkeypatch.setattr(module, "MAX_WALKS", 2)
    for order in ("", "oldest"):
        filters = Filters(q="n", state="failed", order=order)
        found = search(project, filters, timezone.now())
        assert isinstance(found, Walked)
        names = [task.task_id for task in found.first(lambda tasks: tasks, 50)]
        failed = sorted(
            (task for task in hundred if task.state == "failed"), key=lambda task: (task.created_at, task.pk)
        )
        assert names == [task.task_id for task in (failed if order else failed[::-1])]


def test_a_page_says_how_far_it_looked_and_goes_on_from_there(alice, make_task, small_steps):
    make_task("failed", task_id="old", age=9000, engine="rq")
    for number in range(20):
        make_task("failed", age=number)
        make_task("succeeded", age=number, engine="rq")
    text = alice.get(f"{LIST}?{RARE}").text
    assert shown(text) == []
    assert 'data-kind="further"' in text
    assert "Search further back" in text
    assert re.search(r"what was looked through, from now to \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ UTC", text)
    assert walk(alice, f"{LIST}?{RARE}") == ["old"]


def test_no_step_is_begun_when_time_is_up(project, make_task, monkeypatch):
    monkeypatch.setattr(module, "STEP", 2)
    monkeypatch.setattr(module, "SECONDS", -1)
    tasks = [
        make_task(("succeeded", "failed")[number % 2], age=number, engine=("rq", "celery")[number % 2])
        for number in range(12)
    ]
    found = search(project, Filters(state="failed", engine="rq"), timezone.now())
    assert isinstance(found, Walked)
    assert found.keys == []
    assert found.reach is not None
    assert found.reach.created_at in {task.created_at for task in tasks[1:4]}


def test_the_count_of_a_walk_stops_at_its_cap(alice, make_task, monkeypatch):
    monkeypatch.setattr(module, "STEP", 2)
    monkeypatch.setattr(module, "SECONDS", 3600)
    monkeypatch.setattr(module, "FOUND_CAP", 2)
    monkeypatch.setattr("dashboard.pages.tasks.FOUND_CAP", 2)
    for number in range(9):
        make_task("failed", age=number, engine="rq")
        make_task("succeeded", age=number)
    assert "<b>2+</b>" in alice.get(f"{LIST}?engine=rq&queue=mail").text


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(state="failed"),
        Filters(state="waiting"),
        Filters(queue="q"),
        Filters(name="n"),
        Filters(q="n"),
    ],
    ids=str,
)
def test_one_column_is_read_from_its_index_to_the_end(project, hundred, filters):
    assert isinstance(search(project, filters, timezone.now()), Ordered)


def test_the_open_page_of_a_walk_counts_what_is_new_to_it(alice, make_task):
    make_task("failed", age=5, engine="rq")
    url = live_url(alice.get(f"{LIST}?{RARE}").text)
    make_task("failed")
    make_task("failed", engine="rq")
    text = alice.get(url).text
    assert 'data-new="1"' in text
    assert 'data-total="2"' in text


def test_an_open_page_further_back_keeps_to_what_it_looked_through(alice, make_task, small_steps):
    for number in range(20):
        make_task("failed", age=number)
        make_task("failed" if number % 4 == 0 else "succeeded", age=number, engine="rq")
    behind = older(alice.get(f"{LIST}?{RARE}").text)
    page = alice.get(behind).text
    following = alice.get(live_url(page)).text
    window = re.compile(r'<span id="task-window"[^>]*>([^<]*)<')
    assert window.search(page)[1] == window.search(following)[1]


def test_a_task_whose_name_was_not_told_is_found_by_its_engine(alice, make_task):
    make_task(name="", task_id="nameless", engine="rq")
    make_task()
    assert shown(alice.get(f"{LIST}?engine=rq").text) == ["nameless"]
    assert shown(alice.get(reverse("tasks", args=["shop"]), {"engine": "rq", "state": "succeeded"}).text) == [
        "nameless"
    ]
