"""Reads the counters per minute: series of the last hour, percentiles, rates of queues."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet, Sum

from brain.histogram import duration_of, percentile
from brain.models import MetricMinute
from brain.models.metric import Measure

MINUTES = 60
#: Minutes over which rates, shares and percentiles are told.
RECENT = 15
_MINUTE = timedelta(minutes=1)
_ENDS = (Measure.SUCCEEDED, Measure.FAILED, Measure.REVOKED, Measure.REJECTED)
_RATES = (Measure.PUBLISHED, *_ENDS)
_COUNTED = (*_RATES, Measure.STARTED, Measure.RETRIED)

Series = list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """The time rates are told over: the last quarter of an hour, or since the first counter when that is later."""

    first: datetime | None
    minutes: float

    @property
    def label(self) -> str:
        """The span in words; the minute that runs counts as one."""
        whole = math.ceil(self.minutes)
        return "the last minute" if whole == 1 else f"the last {whole} minutes"


@dataclasses.dataclass(frozen=True, slots=True)
class Hour:
    """The last hour of a project, one value a minute; the last minute is the one that runs."""

    minutes: list[datetime]
    counts: dict[str, Series]
    waits: list[list[tuple[int, int]]]
    span: Span

    def of(self, measure: str) -> Series:
        """Return the counts of a measure."""
        return self.counts.get(measure) or [0] * len(self.minutes)

    def total(self, *measures: str, last: int = MINUTES) -> int:
        """Return the sum of measures over the last minutes."""
        return sum(sum(self.of(measure)[-last:]) for measure in measures)

    @property
    def finished(self) -> Series:
        """Tasks that ended, however they did."""
        return [sum(values) for values in zip(*(self.of(measure) for measure in _ENDS), strict=True)]

    @property
    def finished_per_minute(self) -> float:
        """The rate of the last quarter of an hour, or of as much of it as has counters."""
        return sum(self.finished[-RECENT:]) / self.span.minutes

    def charted(self, measure: str) -> list[int | None]:
        """Return the counts of a measure; None before the first counter of the project."""
        first = self.span.first
        pairs = zip(self.minutes, self.of(measure), strict=True)
        return [None if first is None or minute < first else count for minute, count in pairs]

    @property
    def failure_shares(self) -> list[float | None]:
        """The percentage of failures per minute; None where nothing ended."""
        pairs = zip(self.of(Measure.SUCCEEDED), self.of(Measure.FAILED), strict=True)
        return [share(failed, succeeded + failed) for succeeded, failed in pairs]

    @property
    def failure_share(self) -> float | None:
        """The percentage of failures in the last quarter of an hour."""
        failed = self.total(Measure.FAILED, last=RECENT)
        return share(failed, failed + self.total(Measure.SUCCEEDED, last=RECENT))

    @property
    def wait_p95s(self) -> list[float | None]:
        """The 95th percentile of the waits per minute, in milliseconds."""
        return [percentile(counts, 0.95) for counts in self.waits]

    @property
    def wait_p95(self) -> float | None:
        """The same over the last quarter of an hour."""
        return percentile([pair for counts in self.waits[-RECENT:] for pair in counts], 0.95)

    @property
    def longest_waits(self) -> list[float | None]:
        """The longest wait per minute, in milliseconds."""
        return [
            max((duration_of(bucket) for bucket, count in counts if count > 0), default=None) for counts in self.waits
        ]


@dataclasses.dataclass(slots=True)
class QueueRates:
    """What a queue did in the last quarter of an hour."""

    incoming: float = 0.0
    finished: float = 0.0
    failed: int = 0
    wait_p95: float | None = None


def share(part: int, whole: int) -> float | None:
    """Return a percentage, None of nothing."""
    return 100 * part / whole if whole > 0 else None


def _start(now: datetime, minutes: int) -> datetime:
    return now.replace(second=0, microsecond=0) - (minutes - 1) * _MINUTE


def span(project_id: UUID, now: datetime) -> Span:
    """Return the time over which rates of a project are told."""
    rows = MetricMinute.objects.filter(project_id=project_id).order_by("minute")
    first = rows.values_list("minute", flat=True).first()
    begun = _start(now, RECENT) if first is None else max(first, _start(now, RECENT))
    return Span(first, max(1.0, (now - begun) / _MINUTE))


def _counters(project_id: UUID, minutes: Sequence[datetime], measures: Sequence[Measure]) -> QuerySet[MetricMinute]:
    """Return counters of some measures.

    The minutes are listed, so that an index leads to these measures in each; within a range of minutes it would have
    to be read whole, and most of it are histograms.
    """
    return MetricMinute.objects.filter(project_id=project_id, minute__in=minutes, measure__in=measures)


def counted(project_id: UUID, now: datetime) -> Hour:
    """Return the counters of the last hour, without the waits."""
    start = _start(now, MINUTES)
    minutes = [start + index * _MINUTE for index in range(MINUTES)]
    counts: dict[str, Series] = defaultdict(lambda: [0] * MINUTES)
    rows = _counters(project_id, minutes, _COUNTED)
    for minute, measure, total in rows.values_list("minute", "measure").annotate(total=Sum("count")):
        counts[measure][(minute - start) // _MINUTE] += total
    return Hour(minutes, dict(counts), [[] for _ in minutes], span(project_id, now))


def hour(project_id: UUID, now: datetime) -> Hour:
    """Return the counters and the waits of the last hour."""
    found = counted(project_id, now)
    rows = _counters(project_id, found.minutes, [Measure.WAIT])
    for minute, bucket, total in rows.values_list("minute", "bucket").annotate(total=Sum("count")):
        found.waits[(minute - found.minutes[0]) // _MINUTE].append((bucket, total))
    return found


def queue_rates(project_id: UUID, now: datetime, minutes: float) -> dict[tuple[str, str], QueueRates]:
    """Return the rates of the queues that did something lately, by (engine, queue); told over so many minutes."""
    start = _start(now, RECENT)
    told = _counters(project_id, [start + index * _MINUTE for index in range(RECENT)], [*_RATES, Measure.WAIT])
    rows = told.values_list("engine", "queue", "measure", "bucket").annotate(total=Sum("count"))
    rates: dict[tuple[str, str], QueueRates] = defaultdict(QueueRates)
    waits: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for engine, queue, measure, bucket, total in rows:
        rate = rates[engine, queue]
        if measure == Measure.WAIT:
            waits[engine, queue].append((bucket, total))
        elif measure == Measure.PUBLISHED:
            rate.incoming += total / minutes
        elif measure in _ENDS:
            rate.finished += total / minutes
            rate.failed += total if measure == Measure.FAILED else 0
    for key, counts in waits.items():
        rates[key].wait_p95 = percentile(counts, 0.95)
    return dict(rates)
