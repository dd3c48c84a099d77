"""Percentiles from buckets lie within 5 % of the exact value."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain.histogram import bucket_of, duration_of, percentile
from brain.models import MetricMinute, Task
from brain.models.metric import Measure
from tests.conftest import event

FRACTIONS = (0.5, 0.95, 0.99)


def exact(durations, fraction):
    """Return the duration at the rank of the percentile."""
    return sorted(durations)[max(1, math.ceil(len(durations) * fraction)) - 1]


def buckets(durations):
    return Counter(bucket_of(duration) for duration in durations).items()


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=300), st.sampled_from(FRACTIONS))
def test_a_percentile_is_close_to_the_exact_one(durations, fraction):
    found = percentile(buckets(durations), fraction)
    assert found == pytest.approx(exact(durations, fraction), rel=0.05, abs=0)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=100), st.sampled_from(FRACTIONS))
def test_so_is_one_of_a_few_milliseconds(durations, fraction):
    found = percentile(buckets(durations), fraction)
    assert found == pytest.approx(exact(durations, fraction), rel=0.05, abs=0)


DISTRIBUTIONS = {
    "uniform": lambda chance: chance.uniform(0, 3000),
    "short": lambda chance: chance.expovariate(1 / 2),
    "log-normal": lambda chance: chance.lognormvariate(math.log(80), 1.5),
    "heavy tail": lambda chance: 5 * chance.paretovariate(0.8),
    "two humps": lambda chance: chance.gauss(20, 4) if chance.random() < 0.94 else chance.gauss(60_000, 9000),
    "constant": lambda chance: 250,
}


@given(st.sampled_from(sorted(DISTRIBUTIONS)), st.integers(1, 2000), st.integers(), st.sampled_from(FRACTIONS))
def test_whatever_the_distribution(name, size, seed, fraction):
    chance = random.Random(seed)
    durations = [max(0, round(DISTRIBUTIONS[name](chance))) for _ in range(size)]
    found = percentile(buckets(durations), fraction)
    assert found == pytest.approx(exact(durations, fraction), rel=0.05, abs=0)


@given(st.integers(1, 10**13))
def test_every_duration_is_near_its_bucket(duration):
    assert duration_of(bucket_of(duration)) == pytest.approx(duration, rel=0.04)


@given(st.integers(0, 10**13))
def test_longer_is_never_in_a_lower_bucket(duration):
    assert bucket_of(duration) <= bucket_of(duration + 1)


@given(st.lists(st.lists(st.integers(0, 100_000), max_size=50), min_size=1, max_size=5))
def test_the_percentile_of_minutes_together_is_that_of_all_their_tasks(minutes):
    together = [pair for durations in minutes for pair in buckets(durations)]
    assert percentile(together, 0.95) == percentile(buckets(itertools.chain(*minutes)), 0.95)


def test_what_takes_no_time_is_told_from_a_millisecond():
    assert percentile(buckets([0, 0, 1]), 0.5) == 0
    assert percentile(buckets([0, 1, 1]), 0.5) == 1


def test_nothing_counted_has_no_percentile():
    assert percentile([], 0.5) is None
    assert percentile([(3, 0)], 0.5) is None


@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_counters_tell_the_percentiles_of_the_task_table(ingest, fraction):
    chance, batch = random.Random(5), []
    for number in range(400):
        wait, run = chance.lognormvariate(-3, 1.5), chance.lognormvariate(-2, 1.5)
        moments = {"sent": 0.0, "started": wait, "succeeded": wait + run}
        batch += [
            event(kind, f"t{number}", at=number % 90 + at - 200, task_name="n", queue="q", worker="w")
            for kind, at in moments.items()
        ]
    ingest(batch)
    for measure, column in ((Measure.WAIT, "wait_ms"), (Measure.RUN, "run_ms")):
        durations = list(Task.objects.values_list(column, flat=True))
        counts = MetricMinute.objects.filter(measure=measure).values_list("bucket", "count")
        assert len(durations) == 400
        assert percentile(counts, fraction) == pytest.approx(exact(durations, fraction), rel=0.05, abs=0)
