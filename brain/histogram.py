"""Logarithmic buckets for durations: mergeable counts from which percentiles are read. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable

#: Neighbouring buckets differ by this factor, so a percentile is off by at most its root: 3.9 %.
GROWTH = 1.08
_LOG_GROWTH = math.log(GROWTH)
MAX_BUCKET = 400
#: Holds what took less than a millisecond: durations are whole milliseconds.
NO_TIME = -1


def bucket_of(duration_ms: int) -> int:
    """Return the bucket of a duration: n holds durations around ``GROWTH ** n`` ms, the first one those of 0 ms."""
    if duration_ms < 1:
        return NO_TIME
    return min(MAX_BUCKET, round(math.log(duration_ms) / _LOG_GROWTH))


def duration_of(bucket: int) -> float:
    """Return the duration in milliseconds a bucket stands for."""
    return 0.0 if bucket == NO_TIME else GROWTH**bucket


def percentile(counts: Iterable[tuple[int, int]], fraction: float) -> float | None:
    """Return the duration in milliseconds below which ``fraction`` of the counted ones lie; None when there is none.

    ``counts`` holds (bucket, count) in any order; buckets may repeat.
    """
    merged: dict[int, int] = {}
    for bucket, count in counts:
        merged[bucket] = merged.get(bucket, 0) + count
    total = sum(merged.values())
    if total <= 0:
        return None
    wanted = max(1, math.ceil(total * fraction))
    seen = 0
    for bucket in sorted(merged):
        seen += merged[bucket]
        if seen >= wanted:
            return duration_of(bucket)
    return duration_of(max(merged))
