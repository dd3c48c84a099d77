"""One task: what it is, what happened to it, what was asked of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from audit.models import Entry
from brain.commands import offers
from brain.errors import NotFound
from brain.models import Command, Event, Project, Task
from brain.permissions import VIEW_AUDIT, grants
from brain.states import KIND_STATE, WAITING_STATES, CommandState
from dashboard import documents, jsontree, timeline
from dashboard.access import Request, project_view
from dashboard.formats import clip

EVENTS = 100
COMMANDS = 20
ENTRIES = 50
#: Characters shown of the payload of one event.
PAYLOAD = 8 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Relative:
    """Another task this one names: its row when there is one."""

    label: str
    task_id: str
    task: Task | None


@dataclasses.dataclass(frozen=True, slots=True)
class EventLine:
    """A raw event; its payload as a tree, or as text where no tree can be made of it."""

    event: Event
    attempt: int
    state: str
    payload: jsontree.Node | None
    text: str


def task_of(project: Project, pk: int) -> Task:
    """Return a task of a project. Raises :class:`NotFound`."""
    task = Task.objects.filter(project=project, pk=pk).first()
    if task is None:
        raise NotFound
    return task


@project_view()
def task(request: Request, project: Project, pk: int) -> HttpResponse:
    """Render the page."""
    return render(request, "dashboard/task/page.html", _context(request, project, task_of(project, pk)))


@project_view()
def live(request: Request, project: Project, pk: int) -> HttpResponse:
    """Render the page's body again when it differs from what the reader has seen; nothing otherwise."""
    context = _context(request, project, task_of(project, pk))
    if request.GET.get("seen") == context["fingerprint"]:
        return HttpResponse(status=204)
    return render(request, "dashboard/task/body.html", context)


@project_view()
def text(request: Request, project: Project, pk: int, name: str) -> HttpResponse:
    """Return a text of a task uncut: its page shows the beginning of a long one only."""
    found = documents.whole(task_of(project, pk), name)
    if found is None:
        raise NotFound
    return HttpResponse(found, content_type="text/plain; charset=utf-8")


def _context(request: Request, project: Project, task: Task) -> dict[str, Any]:
    permissions = grants(request.user, project)
    target = f"{task.engine}:{task.task_id}"
    commands = list(Command.objects.filter(project=project, target_type="task", target_id=target)[:COMMANDS])
    window = None if request.GET.get("events") == "all" else timeline.window(task)
    events = _events(project, task, window)
    entries = None
    if VIEW_AUDIT in permissions:
        entries = list(
            Entry.objects.filter(chain_id=project.id, target=f"task:{target}"[:320]).order_by("-seq")[:ENTRIES]
        )
    offered = offers(task, permissions)
    relatives = _relatives(project, task, commands)

    def address(name: str) -> str:
        return reverse("task-text", args=[project.slug, task.pk, name])

    known = {relative.task_id: relative.task for relative in relatives if relative.task is not None}
    context: dict[str, Any] = {
        "project": project,
        "permissions": permissions,
        "page": "tasks",
        "now": timezone.now(),
        "task": task,
        "offers": offered,
        "error": documents.failure(task, address),
        "documents": documents.documents(task, address),
        "cancelled": _cancelled(task, commands),
        "revoked_because": _revoked_because(task),
        "relatives": relatives,
        "attempts": timeline.attempts(events),
        "events": [_line(event) for event in events[:EVENTS]],
        "more_events": len(events) > EVENTS,
        "events_window": window,
        "commands": [_told(command, known) for command in commands],
        "entries": entries,
    }
    context["fingerprint"] = _fingerprint(
        task.revision,
        len(events),
        *((command.id, command.state) for command in commands),
        *((offer.action, offer.reason) for offer in offered),
        *(entry.seq for entry in entries or ()),
    )
    return context


def _fingerprint(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def _events(project: Project, task: Task, window: tuple[datetime, datetime] | None) -> list[Event]:
    """Return the first events of a task, in order. A window keeps to its days; without one every day is looked in."""
    rows = Event.objects.all() if window is None else Event.objects.between(*window)
    rows = rows.filter(project=project, engine=task.engine, task_id=task.task_id).order_by("id")
    return timeline.in_order(rows[: EVENTS + 1])


def _line(event: Event) -> EventLine:
    state = KIND_STATE.get(event.kind)
    tree = jsontree.parse(event.payload, PAYLOAD)
    text = "" if tree else clip(event.payload, PAYLOAD)
    return EventLine(event, timeline.attempt_of(event) + 1, "" if state is None else state.value, tree, text)


def _cancelled(task: Task, commands: Iterable[Command]) -> str:
    """Return what is to be expected of a task that was cancelled and has not ended; empty when it was not."""
    done = any(command.action == "cancel_task" and command.state == CommandState.SUCCEEDED for command in commands)
    if not done or task.is_finished:
        return ""
    if task.state in WAITING_STATES:
        return f"This task is cancelled. It stays {task.state} here until a worker meets it and discards it."
    return "This task is cancelled: its worker was asked to end it. It stays here as it is until the worker tells more."


def _revoked_because(task: Task) -> str:
    """Return why a task was revoked, as far as that says more than that it was."""
    reason = ": ".join(part for part in (task.exception, task.exception_message) if part)
    return "" if reason.strip(" .").lower() == task.state else clip(reason, PAYLOAD)


def _told(command: Command, known: dict[str, Task]) -> dict[str, Any]:
    """Return a command as the page shows it: what was verified in words, the rest of the result beside it."""
    result = command.result if isinstance(command.result, dict) else {}
    new_id = str(result.get("task_id") or "")
    rest = {key: value for key, value in result.items() if key != "verified"}
    return {
        "command": command,
        "verified": _words(result.get("verified")),
        "rest": jsontree.build(rest) if rest else None,
        "new_task": known.get(new_id),
    }


def _words(verified: object) -> str:
    if isinstance(verified, bool):
        return "yes" if verified else "no"
    return verified if isinstance(verified, str) else ""


def _relatives(project: Project, task: Task, commands: Iterable[Command]) -> list[Relative]:
    """Return the tasks this one names, found by their ids in one query."""
    named = [("Parent", task.parent_task_id), ("Root", task.root_task_id), ("Retry of", task.retry_of)]
    for command in commands:
        if command.action == "retry_task" and isinstance(command.result, dict):
            named.append(("Retried as", str(command.result.get("task_id") or "")))
    wanted = {task_id for _, task_id in named if task_id and task_id != task.task_id}
    if not wanted:
        return []
    found = Task.objects.filter(project=project, engine=task.engine, task_id__in=wanted)
    # Unordered: an order would tempt the database to walk the whole list instead of looking the ids up.
    rows = {row.task_id: row for row in found.order_by().only("task_id", "name", "state")}
    pairs = dict.fromkeys((label, task_id) for label, task_id in named if task_id in wanted)
    return [Relative(label, task_id, rows.get(task_id)) for label, task_id in pairs]
