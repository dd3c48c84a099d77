"""The overview: numbers from the counters, failures, queues."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from brain import tokens
from brain.histogram import bucket_of
from brain.models import AgentProcess, MetricMinute, Queue, Task
from dashboard import metrics

pytestmark = pytest.mark.django_db


@pytest.fixture
def count(project):
    """Return a factory of counters."""

    def make(measure: str, number: int, *, minutes_ago: int = 1, queue: str = "mail", bucket: int = 0) -> None:
        minute = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
        MetricMinute.objects.create(
            project=project,
            minute=minute,
            engine="celery",
            queue=queue,
            name="n",
            measure=measure,
            bucket=bucket,
            count=number,
        )

    return make


def test_the_hour_is_read_from_the_counters(count, project):
    count("succeeded", 30)
    count("failed", 10)
    count("succeeded", 7, minutes_ago=40)
    count("succeeded", 1000, minutes_ago=61)
    count("wait", 95, bucket=bucket_of(100))
    count("wait", 5, bucket=bucket_of(10_000))
    hour = metrics.hour(project.id, timezone.now())
    assert sum(hour.finished) == 47
    assert hour.failure_share == 25.0
    assert 90 < hour.wait_p95 < 110
    assert 40 / 15 <= hour.finished_per_minute <= 40 / 14
    assert len(hour.minutes) == 60


def test_an_hour_without_counts_has_no_shares(project):
    hour = metrics.hour(project.id, timezone.now())
    assert (hour.failure_share, hour.wait_p95, sum(hour.finished)) == (None, None, 0)


def test_the_page_shows_numbers_failures_and_queues(alice, count, make_task, connected, project):
    count("succeeded", 40)
    count("failed", 2)
    make_task("failed", exception="ValueError", exception_message="no stock")
    make_task("pending", age=90, queued_at=timezone.now() - timedelta(seconds=90))
    Queue.objects.filter(name="mail").update(depth=17, depth_at=timezone.now())
    text = alice.get(reverse("overview", args=["shop"])).text
    assert 'id="number-finished" data-value="42"' in text
    assert 'data-waiting="1"' in text
    assert "1 min 30 s" in text
    assert "no stock" in text
    assert '<td class="num" title="told' in text
    assert 'data-tone="ok"' in text


def test_a_task_that_waits_for_its_time_is_not_overdue(alice, make_task, connected):
    make_task("pending", age=9000, eta=timezone.now() + timedelta(hours=1))
    assert 'id="number-oldest" data-value=""' in alice.get(reverse("overview", args=["shop"])).text


def test_the_verdict_links_to_what_it_says(alice, make_task, connected):
    make_task("pending", age=900)
    text = alice.get(reverse("overview", args=["shop"])).text
    assert 'data-tone="bad" href="/p/shop/tasks/?state=waiting&amp;order=oldest"' in text


def test_the_chart_has_three_series_of_an_hour(alice, count):
    count("retried", 3)
    data = alice.get(reverse("overview-chart", args=["shop"])).json()
    assert set(data) == {"minutes", "succeeded", "failed", "retried"}
    assert data["retried"][-2:] == [3, 0]
    assert data["retried"][:-2] == data["failed"][:-2] == [None] * 58
    assert all(len(series) == 60 for series in data.values())


def test_the_live_part_replaces_by_id(alice, project):
    text = alice.get(reverse("overview-live", args=["shop"])).text
    assert text.count("hx-swap-oob") == 3
    assert "<html" not in text


def test_counters_of_other_projects_are_not_mixed_in(alice, browse, count):
    count("succeeded", 5)
    assert 'id="number-finished" data-value="0"' in browse("mallory").get("/p/elsewhere/").text


def test_the_overview_costs_a_bounded_number_of_queries(alice, make_task, count, django_assert_max_num_queries):
    for index in range(12):
        make_task("failed", queue=f"q{index}")
        count("succeeded", 1, queue=f"q{index}")
    with django_assert_max_num_queries(19):
        alice.get(reverse("overview", args=["shop"]))


def test_a_young_project_divides_by_its_own_minutes(alice, count, make_task, project):
    make_task()
    now = timezone.now().replace(second=30, microsecond=0)
    count("succeeded", 25, minutes_ago=2)
    count("published", 50, minutes_ago=2)
    hour = metrics.hour(project.id, now)
    assert (hour.finished_per_minute, hour.span.label) == (10.0, "the last 3 minutes")
    assert metrics.queue_rates(project.id, now, hour.span.minutes)["celery", "mail"].incoming == 20.0
    count("failed", 1, minutes_ago=50)
    hour = metrics.hour(project.id, now)
    assert (hour.finished_per_minute, hour.span.label) == (25 / 14.5, "the last 15 minutes")


def test_the_first_minute_of_a_project_counts_whole(count, project):
    count("succeeded", 3, minutes_ago=0)
    hour = metrics.hour(project.id, timezone.now().replace(second=2, microsecond=0))
    assert (hour.finished_per_minute, hour.span.label) == (3.0, "the last minute")


def test_the_latest_failures_are_those_that_failed_last(alice, make_task, connected):
    now = timezone.now()
    ends = {"early": now - timedelta(hours=2), "late": now - timedelta(minutes=3), "untold": None}
    for age, (name, end) in enumerate(ends.items()):
        Task.objects.filter(pk=make_task("failed", name=name, age=9000 + age).pk).update(finished_at=end)
    text = alice.get(reverse("overview", args=["shop"])).text
    assert text.index("late</span>") < text.index("early</span>")
    assert "untold" not in text
    assert "3 min ago" in text


def test_without_a_valid_credential_the_overview_is_blind(alice, make_task, agent, connected):
    make_task()
    AgentProcess.objects.update(last_seen_at=timezone.now() - timedelta(minutes=7))
    tokens.revoke(agent.agent, by="test")
    text = alice.get(reverse("overview", args=["shop"])).text
    assert "No valid credential is left" in text
    assert f'data-tone="bad" href="{reverse("connect", args=["shop"])}"' in text


@pytest.mark.parametrize(
    ("depth", "words"), [(0, "nothing waited"), (1, "1 event waited in"), (2, "2 events waited in")]
)
def test_buffers_are_told_as_of_the_last_telling(alice, connected, depth, words):
    AgentProcess.objects.update(buffer_depth=depth)
    text = alice.get(reverse("overview", args=["shop"])).text
    assert "When they last told" in text
    assert words in text
