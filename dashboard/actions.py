"""What a person can do here: each view checks, calls one function of the brain, and leads back."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST
from z4j_core.actions import ACTIONS
from z4j_core.text import clean_text

from brain import commands, tokens
from brain.errors import Conflict, InvalidInput, NotFound
from brain.models import Project
from brain.permissions import MANAGE_AGENTS
from dashboard.access import Request, project_view
from dashboard.pages.agents import agent_of
from dashboard.pages.connect import page_context, steps
from dashboard.pages.task_detail import task_of


@require_POST
@project_view()
def act_on_task(request: Request, project: Project, pk: int, action: str) -> HttpResponse:
    """Ask an agent to do an action to a task; a destructive one asks the person first."""
    task = task_of(project, pk)
    known = ACTIONS.get(action)
    if known is None or known.target != "task":
        raise NotFound
    if known.destructive and not _confirmed(request):
        return _ask(request, project, known.label, known.confirm, task.name or task.task_id)
    commands.issue_for_task(project, task, action, request.user)
    # Neutral: the banner stays where it is, whatever comes of the command.
    messages.info(request, f"{known.label} was asked for. What came of it appears under Commands.")
    return redirect("task", project.slug, task.pk)


@require_POST
@project_view(MANAGE_AGENTS)
def mint_agent(request: Request, project: Project) -> HttpResponse:
    """Create an agent and show its secrets, this once."""
    name = clean_text(request.POST.get("name", ""))
    context = page_context(request, project)
    try:
        minted = tokens.mint(project, name, by=request.user.email)
    except (InvalidInput, Conflict) as error:
        taken = isinstance(error, Conflict)
        context |= {"name": name, "problem": error, "taken": taken}
        return render(request, "dashboard/connect/page.html", context, status=409 if taken else 400)
    return render(
        request, "dashboard/connect/minted.html", {**context, **steps(project, minted.agent), "minted": minted}
    )


@require_POST
@project_view(MANAGE_AGENTS)
def revoke_agent(request: Request, project: Project, agent: UUID) -> HttpResponse:
    """Make an agent's credential void, after asking."""
    found = agent_of(project, agent)
    if not _confirmed(request):
        question = "Revoke this agent? Its processes are disconnected and its token never works again."
        return _ask(request, project, "Revoke", question, found.name)
    tokens.revoke(found, by=request.user.email)
    messages.success(request, f"Agent {found.name} is revoked.")
    return redirect("agents", project.slug)


def _confirmed(request: Request) -> bool:
    return request.POST.get("confirmed") == "yes"


def _ask(request: Request, project: Project, label: str, question: str, subject: str) -> HttpResponse:
    """Render the question of a browser without our script."""
    context = {"project": project, "label": label, "question": question, "subject": subject}
    return render(request, "dashboard/confirm.html", context)
