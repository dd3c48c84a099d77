"""The overview: numbers from the counters, failures, queues."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from brain.histogram import bucket_of
from brain.models import MetricMinute, Queue
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
    assert sum(data["retried"]) == 3
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
    with django_assert_max_num_queries(18):
        alice.get(reverse("overview", args=["shop"]))
