"""One task: what it is, what happened to it, what was asked of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from audit.models import Entry
from brain.commands import offers
from brain.errors import NotFound
from brain.models import Command, Event, Project, Task
from brain.permissions import VIEW_AUDIT, grants
from brain.states import KIND_STATE
from dashboard import jsontree, timeline
from dashboard.access import Request, project_view

EVENTS = 100
COMMANDS = 20
ENTRIES = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """Arguments or a result: a tree when it is JSON, else text."""

    label: str
    anchor: str
    text: str
    tree: jsontree.Node | None

    @property
    def segments(self) -> list[jsontree.Segment]:
        """The text, split at what was redacted."""
        return jsontree.segments(self.text)


@dataclasses.dataclass(frozen=True, slots=True)
class Relative:
    """Another task this one names: its row when there is one."""

    label: str
    task_id: str
    task: Task | None


@dataclasses.dataclass(frozen=True, slots=True)
class EventLine:
    """A raw event."""

    event: Event
    attempt: int
    state: str
    payload: jsontree.Node | None


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


def _context(request: Request, project: Project, task: Task) -> dict[str, Any]:
    permissions = grants(request.user, project)
    target = f"{task.engine}:{task.task_id}"
    commands = list(Command.objects.filter(project=project, target_type="task", target_id=target)[:COMMANDS])
    events = _events(project, task)
    entries = None
    if VIEW_AUDIT in permissions:
        entries = list(
            Entry.objects.filter(chain_id=project.id, target=f"task:{target}"[:320]).order_by("-seq")[:ENTRIES]
        )
    offered = offers(task, permissions)
    relatives = _relatives(project, task, commands)
    known = {relative.task_id: relative.task for relative in relatives if relative.task is not None}
    context: dict[str, Any] = {
        "project": project,
        "permissions": permissions,
        "page": "tasks",
        "now": timezone.now(),
        "task": task,
        "offers": offered,
        "error_text": _error_text(task),
        "documents": _documents(task),
        "relatives": relatives,
        "attempts": timeline.attempts(events),
        "events": [_line(event) for event in events[:EVENTS]],
        "more_events": len(events) > EVENTS,
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


def _events(project: Project, task: Task) -> list[Event]:
    rows = Event.objects.filter(project=project, engine=task.engine, task_id=task.task_id).order_by("id")
    return timeline.in_order(rows[: EVENTS + 1])


def _line(event: Event) -> EventLine:
    state = KIND_STATE.get(event.kind)
    try:
        payload = jsontree.build(event.payload)
    except RecursionError:
        payload = None
    return EventLine(event, timeline.attempt_of(event) + 1, "" if state is None else state.value, payload)


def _documents(task: Task) -> list[Document]:
    told = (
        ("Arguments", "args", task.args),
        ("Keyword arguments", "kwargs", task.kwargs),
        ("Result", "result", task.result),
    )
    documents = []
    for label, anchor, text in told:
        if not text:
            continue
        # A result that was a string is stored as its content, which must not be read as JSON by accident.
        tree = jsontree.parse(text) if anchor != "result" or text[:1] in "[{" else None
        documents.append(Document(label, anchor, text, tree))
    return documents


def _error_text(task: Task) -> str:
    head = ": ".join(part for part in (task.exception, task.exception_message) if part)
    return "\n\n".join(part for part in (head, task.traceback) if part)


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
