"""Connecting an agent: the form, the lines to copy, the checklist that ticks itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from z4j_core.versions import package_version

from brain.models import Agent, AgentProcess, Event, Project, Task
from brain.permissions import MANAGE_AGENTS, grants
from dashboard.access import Request, project_view
from dashboard.pages.agents import agent_of
from dashboard.timeline import window

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: Of so many of the newest tasks the first one of a new agent is looked for.
_LOOKED_THROUGH = 200
_LONG = ("args", "kwargs", "result", "traceback", "exception_message")


def brain_url(request: HttpRequest) -> str:
    """Return the address agents should use."""
    return settings.Z4J_CONFIG.public_url.rstrip("/") or request.build_absolute_uri("/").rstrip("/")


@project_view()
def connect(request: Request, project: Project) -> HttpResponse:
    """Render the first step: a name for the agent."""
    return render(request, "dashboard/connect/page.html", page_context(request, project))


@project_view(MANAGE_AGENTS)
def progress(request: Request, project: Project, agent: UUID) -> HttpResponse:
    """Render the checklist of an agent."""
    context = {"project": project, "now": timezone.now(), **steps(project, agent_of(project, agent))}
    return render(request, "dashboard/connect/progress.html", context)


def page_context(request: Request, project: Project) -> dict[str, Any]:
    """Return what the page needs in every step."""
    url = brain_url(request)
    parts = urlsplit(url)
    return {
        "project": project,
        "permissions": grants(request.user, project),
        "page": "agents",
        "now": timezone.now(),
        "brain_url": url,
        "version": package_version("z4j"),
        "plain": parts.scheme == "http" and parts.hostname not in _LOOPBACK,
    }


def steps(project: Project, agent: Agent) -> dict[str, Any]:
    """Return how far an agent has come: connected, first event, first task."""
    process = AgentProcess.objects.filter(agent=agent).order_by("-state", "-last_seen_at").first()
    task = _first_task(project, agent) if agent.visible else None
    return {"agent": agent, "process": process, "task": task, "done": task is not None}


def _first_task(project: Project, agent: Agent) -> Task | None:
    """Return the first task this agent told of, among the newest of the project."""
    newest = Task.objects.filter(project=project).order_by("-created_at", "-id").defer(*_LONG)
    tasks = {(task.engine, task.task_id): task for task in newest[:_LOOKED_THROUGH]}
    if not tasks:
        return None
    windows = [window(task) for task in tasks.values()]
    told = Event.objects.between(min(start for start, _ in windows), max(end for _, end in windows))
    told = told.filter(project=project, agent=agent, task_id__in=[task_id for _, task_id in tasks])
    # In no order: that of the events' key would have the database read all of the window.
    told = told.filter(engine__in={engine for engine, _ in tasks}).order_by()
    pairs = set(told.values_list("engine", "task_id")[:1000])
    return next((task for key, task in reversed(tasks.items()) if key in pairs), None)
