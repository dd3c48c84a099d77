"""The task list: filters, keyset pages, and what changes on a page that is open."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from django.db.models import Max, QuerySet
from django.db.models.functions import Left
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from brain.models import Project, Task
from brain.permissions import grants
from dashboard import connection, formats
from dashboard.access import Request, project_view
from dashboard.filters import WINDOWS, Cursor, Filters, behind, choices, first, newer_than

PAGE = 50
#: Tasks are not counted beyond this.
COUNT_CAP = 10_000
NEW_CAP = 1_000
_COLUMNS = (
    "engine", "task_id", "name", "queue", "worker", "state", "attempt", "retries", "executed_twice", "exception",
    "created_at", "finished_at", "wait_ms", "run_ms", "revision", "eta",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """A count that stops at a cap."""

    value: int
    cap: int

    @property
    def is_capped(self) -> bool:
        """Whether there are more."""
        return self.value > self.cap

    def __str__(self) -> str:
        return formats.capped(self.value, self.cap)


def count(tasks: QuerySet[Task], cap: int) -> Count:
    """Count tasks, but never more than one beyond the cap."""
    return Count(tasks.order_by()[: cap + 1].count(), cap)


def rows(tasks: QuerySet[Task]) -> QuerySet[Task]:
    """Return tasks as rows of a list: short texts instead of whole arguments and tracebacks."""
    return tasks.only(*_COLUMNS).annotate(
        args_line=Left("args", 200), kwargs_line=Left("kwargs", 200), message_line=Left("exception_message", 200)
    )


@project_view()
def tasks(request: Request, project: Project) -> HttpResponse:
    """Render one page of the list."""
    now = timezone.now()
    filters = Filters.parse(request.GET)
    selected = filters.select(project, now)
    after = request.GET.get("after", "")
    newest = Task.objects.order_by().aggregate(id=Max("id"))["id"] or 0
    page = behind(selected, Cursor.parse(after), ascending=filters.oldest_first) if after else selected
    found = first(rows(page), filters, PAGE + 1)
    shown = found[:PAGE]
    context = {
        "project": project,
        "permissions": grants(request.user, project),
        "page": "tasks",
        "now": now,
        "filters": filters,
        "tasks": shown,
        "total": count(selected, COUNT_CAP),
        "first": not after,
        "top": "" if after or filters.oldest_first else _top(newest, shown),
        "older": str(Cursor.of(shown[-1])) if len(found) > PAGE else "",
        "window": WINDOWS[filters.since][1] if filters.since else f"all {project.task_retention_days} days kept",
        "nothing": None if shown else _nothing(project, filters),
        **choices(project),
    }
    return render(request, "dashboard/tasks/page.html", context)


@project_view()
def live(request: Request, project: Project) -> HttpResponse:
    """Render what changed on an open page: the total, the number of new tasks, and rows with a newer revision."""
    now = timezone.now()
    filters = Filters.parse(request.GET)
    selected = filters.select(project, now)
    top = request.GET.get("top", "")
    fresh = count(newer_than(selected, top), NEW_CAP) if top else None
    seen = _seen(request.GET.getlist("seen"))
    known = rows(Task.objects.filter(project=project, id__in=list(seen)).order_by())
    context = {
        "project": project,
        "now": now,
        "filters": filters,
        "total": count(selected, COUNT_CAP),
        "fresh": fresh,
        "changed": [task for task in known if task.revision != seen[task.pk]],
    }
    return render(request, "dashboard/tasks/live.html", context)


def _top(newest: int, shown: list[Task]) -> int:
    """Return the id beyond which tasks are new to the reader.

    ``newest`` was read before the list: what came in between is not missed, and what the list shows is not new.
    """
    return max([newest, *(task.pk for task in shown)])


def _seen(pairs: Iterable[str]) -> dict[int, int]:
    """Read ``id:revision`` pairs, a page of them at most."""
    seen: dict[int, int] = {}
    for pair in list(pairs)[:PAGE]:
        identifier, _, revision = pair.partition(":")
        if identifier.isdecimal() and revision.isdecimal() and len(identifier) < 19 and len(revision) < 19:
            seen[int(identifier)] = int(revision)
    return seen


def _nothing(project: Project, filters: Filters) -> dict[str, Any]:
    """Return which kind of nothing an empty list is."""
    hidden = count(Task.objects.filter(project=project), COUNT_CAP)
    if hidden.value:
        return {"kind": "hidden", "hidden": hidden}
    state = connection.of_project(project)
    kind = "unconnected" if not state.ever else "idle" if state.online else "offline"
    return {"kind": kind, "connection": state, "filtered": filters.narrowing}
