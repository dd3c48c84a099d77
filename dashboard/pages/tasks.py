"""The task list: filters, keyset pages, and what changes on a page that is open."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Max, QuerySet
from django.db.models.functions import Left
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from brain.errors import InvalidInput
from brain.models import Project, Task
from brain.permissions import grants
from dashboard import connection, formats
from dashboard.access import Request, project_view
from dashboard.filters import WINDOWS, Cursor, Filters, choices
from dashboard.search import FOUND_CAP, Ordered, Search, search

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
    after = _place(request)
    newest = Task.objects.order_by().aggregate(id=Max("id"))["id"] or 0
    looked = search(project, filters, now, after)
    found = looked.first(rows, PAGE + 1)
    shown = found[:PAGE]
    older = Cursor.of(shown[-1]) if len(found) > PAGE else looked.reach
    context = {
        "project": project,
        "permissions": grants(request.user, project),
        "page": "tasks",
        "now": now,
        "filters": filters,
        "tasks": shown,
        "total": _total(project, filters, now, looked, after),
        "first": after is None,
        "top": "" if after or filters.oldest_first else _top(newest, shown),
        "after": "" if after is None or isinstance(looked, Ordered) else str(after),
        "older": "" if older is None else str(older),
        "further": older is not None and older == looked.reach,
        "window": _window(project, filters, looked, after),
        "nothing": None if shown else _nothing(project, filters, looked),
        **choices(project),
    }
    return render(request, "dashboard/tasks/page.html", context)


@project_view()
def live(request: Request, project: Project) -> HttpResponse:
    """Render what changed on an open page: the total, the number of new tasks, and rows with a newer revision."""
    now = timezone.now()
    filters = Filters.parse(request.GET)
    top, after = request.GET.get("top", ""), _place(request)
    looked = search(project, filters, now, after)
    fresh = Count(min(looked.newer(_key(top)), NEW_CAP + 1), NEW_CAP) if top else None
    seen = _seen(request.GET.getlist("seen"))
    known = rows(Task.objects.filter(project=project, id__in=list(seen)).order_by())
    context = {
        "project": project,
        "now": now,
        "filters": filters,
        "total": _total(project, filters, now, looked, after),
        "window": _window(project, filters, looked, after),
        "fresh": fresh,
        "changed": [task for task in known if task.revision != seen[task.pk]],
    }
    return render(request, "dashboard/tasks/live.html", context)


def _place(request: Request) -> Cursor | None:
    text = request.GET.get("after", "")
    return Cursor.parse(text) if text else None


def _key(text: str) -> int:
    """Read the key of a task. Raises :class:`InvalidInput`.

    Keys are in the order of arrival; ``created_at`` is not: a task may be told late.
    """
    if not text.isdecimal() or len(text) > 18:
        raise InvalidInput("This is not the id of a task.")
    return int(text)


def _total(project: Project, filters: Filters, now: datetime, looked: Search, after: Cursor | None) -> Count:
    """Count all tasks asked for where an index has them, else what this page found."""
    if not isinstance(looked, Ordered):
        return Count(looked.count(FOUND_CAP), FOUND_CAP)
    whole = looked if after is None else search(project, filters, now)
    return Count(whole.count(COUNT_CAP), COUNT_CAP)


def _window(project: Project, filters: Filters, looked: Search, after: Cursor | None) -> str:
    """Return in words what was looked through."""
    whole = WINDOWS[filters.since][1] if filters.since else f"all {project.task_retention_days} days kept"
    if isinstance(looked, Ordered) or (after is None and looked.reach is None):
        return whole
    start = formats.absolute(after.created_at) if after else "the oldest" if filters.oldest_first else "now"
    end = "the end" if looked.reach is None else formats.absolute(looked.reach.created_at)
    return f"what was looked through, from {start} to {end}"


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


def _nothing(project: Project, filters: Filters, looked: Search) -> dict[str, Any]:
    """Return which kind of nothing an empty list is."""
    if looked.reach is not None:
        return {"kind": "further"}
    hidden = Count(search(project, Filters(), timezone.now()).count(COUNT_CAP), COUNT_CAP)
    if hidden.value:
        return {"kind": "hidden", "hidden": hidden}
    state = connection.of_project(project)
    kind = "unconnected" if not state.ever else "idle" if state.online else "offline"
    return {"kind": kind, "connection": state, "filtered": filters.narrowing}
