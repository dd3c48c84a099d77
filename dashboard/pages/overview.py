"""The overview: a verdict, four numbers, the last hour, what failed last, the queues."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone

from brain.models import Project, Queue, Task
from brain.models.metric import Measure
from brain.permissions import grants
from brain.states import TaskState
from dashboard import connection, metrics
from dashboard.access import Request, project_view
from dashboard.filters import STATE_GROUPS
from dashboard.pages.tasks import count, rows
from dashboard.verdict import Facts, verdict

FAILURES = 8
QUEUES = 30
WAITING_CAP = 1_000
#: Waiting tasks looked through for the oldest one that is not waiting for its time.
_LOOKED_THROUGH = 200
_CHARTED = (Measure.SUCCEEDED, Measure.FAILED, Measure.RETRIED)


@dataclasses.dataclass(frozen=True, slots=True)
class QueueRow:
    """A line of the queue table."""

    queue: Queue
    rates: metrics.QueueRates

    @property
    def badness(self) -> tuple[Any, ...]:
        """Worst first: depth, then failures, then wait; then by name."""
        return (-(self.queue.depth or 0), -self.rates.failed, -(self.rates.wait_p95 or 0), self.queue.name)


@project_view()
def overview(request: Request, project: Project) -> HttpResponse:
    """Render the page."""
    context = _context(request, project)
    return render(request, "dashboard/overview/page.html", context)


@project_view()
def live(request: Request, project: Project) -> HttpResponse:
    """Render the parts that change."""
    return render(request, "dashboard/overview/live.html", {**_context(request, project), "swap": True})


@project_view()
def chart(request: Request, project: Project) -> JsonResponse:
    """Return the chart's data: seconds, then one list a series."""
    hour = metrics.counted(project.id, timezone.now())
    return JsonResponse(
        {
            "minutes": [int(minute.timestamp()) for minute in hour.minutes],
            **{measure.value: hour.charted(measure) for measure in _CHARTED},
        }
    )


def _context(request: Request, project: Project) -> dict[str, Any]:
    now = timezone.now()
    hour = metrics.hour(project.id, now)
    state = connection.of_project(project)
    waiting_since = _oldest_waiting(project, now)
    waiting = count(Task.objects.filter(project=project, state__in=STATE_GROUPS["waiting"]), WAITING_CAP)
    facts = Facts(
        now=now,
        connection=state,
        finished=sum(hour.finished[-metrics.RECENT :]),
        failed=hour.total(Measure.FAILED, last=metrics.RECENT),
        failure_share=hour.failure_share,
        finished_hour=sum(hour.finished),
        waiting=waiting.value,
        waiting_since=waiting_since,
        started_lately=hour.total(Measure.STARTED, last=6),
    )
    failed = Task.objects.filter(project=project, state=TaskState.FAILED, finished_at__isnull=False)
    return {
        "project": project,
        "permissions": grants(request.user, project),
        "page": "overview",
        "now": now,
        "verdict": verdict(facts),
        "facts": facts,
        "hour": hour,
        "waiting": waiting,
        "oldest_ms": None if waiting_since is None else (now - waiting_since) / timedelta(milliseconds=1),
        "charted": {measure.value: hour.total(measure) for measure in _CHARTED},
        "failures": list(rows(failed.order_by("-finished_at", "-id"))[:FAILURES]),
        "queues": _queues(project, now, hour.span.minutes),
        "connection": state,
    }


def _oldest_waiting(project: Project, now: datetime) -> datetime | None:
    """Return since when the longest waiting task could have run."""
    moments = [
        row
        for state in STATE_GROUPS["waiting"]
        for row in Task.objects.filter(project=project, state=state)
        .order_by("created_at", "id")
        .values_list("created_at", "queued_at", "received_at", "eta")[:_LOOKED_THROUGH]
    ]
    ready = [
        max(queued or received or created, eta) if eta else queued or received or created
        for created, queued, received, eta in moments
        if eta is None or eta <= now
    ]
    return min(ready, default=None)


def _queues(project: Project, now: datetime, minutes: float) -> list[QueueRow]:
    rates = metrics.queue_rates(project.id, now, minutes)
    queues = Queue.objects.filter(project=project).order_by("-last_seen_at")[:QUEUES]
    found = [QueueRow(queue, rates.get((queue.engine, queue.name), metrics.QueueRates())) for queue in queues]
    return sorted(found, key=lambda row: row.badness)
