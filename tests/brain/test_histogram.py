"""Percentiles from buckets lie within 5 % of the exact value."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from brain.histogram import bucket_of, percentile


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_close_to_the_exact_one(durations, fraction):
    counts = Counter(bucket_of(duration) for duration in durations)
    exact = sorted(durations)[max(0, -(-len(durations) * fraction // 1).__trunc__() - 1)]
    found = percentile(counts.items(), fraction)
    assert found is not None
    assert abs(found - exact) <= max(0.05 * exact, 0.6)


def test_nothing_counted_has_no_percentile():
    assert percentile([], 0.5) is None
    assert percentile([(3, 0)], 0.5) is None
