"""The task list: pages, filters, search, what changes while it is open."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from brain.models import Task
from dashboard.pages import tasks as page
from dashboard.search import Ordered

pytestmark = pytest.mark.django_db
LIST = "/p/shop/tasks/"


def shown(html: str) -> list[str]:
    """Return the ids of the tasks on a page, in order."""
    return re.findall(r'<tr id="task-\d+" data-task-id="([^"]+)"', html)


def older(html: str) -> str | None:
    found = re.search(r'id="older" rel="next" href="([^"]+)"', html)
    return found[1].replace("&amp;", "&") if found else None


def walk(client, url: str) -> list[str]:
    """Return the ids on all pages."""
    found: list[str] = []
    following: str | None = url
    while following:
        html = client.get(following).text
        found += shown(html)
        following = older(html)
    return found


@pytest.mark.parametrize("order", ["", "order=oldest"])
@pytest.mark.parametrize("states", [("failed", "failed"), ("pending", "received")])
def test_pages_have_no_gaps_and_no_repeats_with_equal_times(alice, make_task, monkeypatch, order, states):
    monkeypatch.setattr(page, "PAGE", 3)
    now = timezone.now()
    moments = [now, now, now, now, now, now - timedelta(seconds=1), now - timedelta(seconds=1), now - timedelta(days=2)]
    tasks = [make_task(states[index % 2], created_at=moment, updated_at=moment) for index, moment in enumerate(moments)]
    make_task("succeeded")
    asked = "state=waiting" if states[0] != states[1] else "state=failed"
    expected = sorted(tasks, key=lambda task: (task.created_at, task.pk), reverse=not order)
    assert walk(alice, f"{LIST}?{asked}&{order}") == [task.task_id for task in expected]


def test_a_task_that_arrives_while_paging_moves_nothing(alice, make_task, monkeypatch):
    monkeypatch.setattr(page, "PAGE", 2)
    tasks = [make_task(age=100 - index) for index in range(4)]
    html = alice.get(LIST).text
    make_task()
    assert shown(html) + walk(alice, older(html)) == [task.task_id for task in reversed(tasks)]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("state=failed", {"b"}),
        ("state=waiting", {"c", "d"}),
        ("state=finished", {"a", "b", "e"}),
        ("queue=slow", {"e"}),
        ("engine=rq", {"d"}),
        ("name=a", {"a"}),
        ("since=1h", {"a", "b", "c", "d"}),
        ("state=succeeded&since=1h", {"a"}),
    ],
)
def test_filters(alice, make_task, query, names):
    make_task("succeeded", name="a", task_id="a")
    make_task("failed", name="b", task_id="b")
    make_task("pending", name="c", task_id="c")
    make_task("received", name="d", task_id="d", engine="rq")
    make_task("succeeded", name="e", task_id="e", queue="slow", age=7200)
    answer = alice.get(f"{LIST}?{query}")
    assert set(shown(answer.text)) == names
    assert f'data-total="{len(names)}"' in answer.text


def test_search_finds_names_by_a_part_and_tasks_by_their_id(alice, make_task):
    make_task(name="shop.orders.charge", task_id="t1")
    make_task(name="mail.send", task_id="t2")
    assert shown(alice.get(LIST, {"q": "CHARGE"}).text) == ["t1"]
    assert shown(alice.get(LIST, {"q": "t2"}).text) == ["t2"]
    assert shown(alice.get(LIST, {"q": "t"}).text) == []
    assert shown(alice.get(LIST, {"q": "%"}).text) == []


@pytest.mark.parametrize("name", ["q", "name", "queue", "engine"])
def test_a_nul_finds_nothing_and_breaks_nothing(alice, make_task, name):
    make_task()
    for url in (LIST, f"{LIST}live"):
        assert alice.get(f"{url}?{name}=a%00b").status_code == 200
    assert shown(alice.get(f"{LIST}?{name}=%00").text) == []


@pytest.mark.parametrize("top", ["x", "1%00", "-1", "9" * 30, "9" * 5000])
def test_a_place_that_means_nothing_is_refused(alice, project, top):
    assert alice.get(f"{LIST}live?top={top}").status_code == 400
    assert alice.get(f"{LIST}?after={top}").status_code == 400


@pytest.mark.parametrize(
    "query", ["state=nope", "since=ever", "order=random", "after=x", "after=99999999999999999999.1"]
)
def test_a_filter_that_means_nothing_is_refused_and_not_shown_as_an_empty_list(alice, project, query):
    answer = alice.get(f"{LIST}?{query}")
    assert answer.status_code == 400


def test_the_count_stops_at_its_cap(alice, make_task, monkeypatch):
    monkeypatch.setattr(page, "COUNT_CAP", 2)
    for _ in range(2):
        make_task()
    assert 'data-total="2" data-capped="false"' in alice.get(LIST).text
    for _ in range(3):
        make_task()
    text = alice.get(LIST).text
    assert 'data-total="3" data-capped="true"' in text
    assert "<b>2+</b>" in text


def test_an_empty_list_says_which_kind_of_nothing_it_is(alice, make_task, project, connected):
    assert 'data-kind="idle"' in alice.get(LIST).text
    type(connected).objects.update(state="offline")
    assert 'data-kind="offline"' in alice.get(LIST).text
    connected.delete()
    text = alice.get(LIST).text
    assert 'data-kind="unconnected"' in text
    assert reverse("connect", args=["shop"]) in text
    make_task()
    text = alice.get(LIST, {"state": "failed"}).text
    assert 'data-kind="hidden"' in text
    assert "The filters hide 1 task." in text


def live_url(html: str) -> str:
    return re.search(r'class="live-link" hx-get="([^"]+)"', html)[1].replace("&amp;", "&")


def test_new_tasks_wait_in_a_pill_and_the_total_is_told(alice, make_task):
    make_task(age=5)
    url = live_url(alice.get(LIST).text)
    assert 'data-new="0"' in alice.get(url).text
    make_task()
    make_task("failed")
    text = alice.get(url).text
    assert 'data-new="2"' in text
    assert 'data-total="3"' in text
    assert "<tr" not in text


def test_a_task_that_is_told_late_is_new_too(alice, make_task, monkeypatch):
    make_task(age=5)
    url = live_url(alice.get(LIST).text)
    make_task(age=500)
    assert 'data-new="1"' in alice.get(url).text


def test_a_task_that_arrives_while_the_list_is_read_is_shown_and_not_new(alice, make_task, monkeypatch):
    read = Ordered.first

    def late(*args):
        make_task()
        return read(*args)

    monkeypatch.setattr(Ordered, "first", late)
    html = alice.get(LIST).text
    assert len(shown(html)) == 1
    assert 'data-new="0"' in alice.get(live_url(html)).text


def test_the_pill_counts_what_the_filters_let_through(alice, make_task):
    make_task("failed", age=5)
    url = live_url(alice.get(LIST, {"state": "failed"}).text)
    make_task("succeeded")
    make_task("failed")
    assert 'data-new="1"' in alice.get(url).text


def test_rows_that_changed_are_sent_again_and_no_others(alice, make_task):
    changed, same = make_task("started", age=2), make_task(age=1)
    seen = [f"{task.pk}:{task.revision}" for task in (changed, same)]
    url = live_url(alice.get(LIST).text)
    Task.objects.filter(pk=changed.pk).update(state="succeeded", revision=2)
    text = alice.get(f"{url}&seen={seen[0]}&seen={seen[1]}").text
    assert shown(text) == [changed.task_id]
    # Without the template around them the browser's parser drops rows that follow other elements.
    assert "<template><tr" in text.replace("\n", "")
    assert 'data-state="succeeded"' in text
    assert f'value="{changed.pk}:2"' in text


def test_later_pages_and_the_oldest_first_have_no_pill(alice, make_task, monkeypatch):
    monkeypatch.setattr(page, "PAGE", 1)
    make_task(age=2)
    make_task(age=1)
    for url in (older(alice.get(LIST).text), f"{LIST}?order=oldest"):
        assert "new-pill" not in alice.get(live_url(alice.get(url).text)).text


def test_garbage_among_the_seen_rows_is_ignored(alice, make_task):
    make_task()
    url = reverse("tasks-live", args=["shop"])
    assert alice.get(f"{url}?seen=x&seen=1&seen=99999999999999999999999:1&seen=-1:2").status_code == 200


def test_a_list_costs_the_same_number_of_queries_however_long_it_is(alice, make_task, django_assert_max_num_queries):
    for _ in range(30):
        make_task()
    with django_assert_max_num_queries(14):
        alice.get(LIST)
