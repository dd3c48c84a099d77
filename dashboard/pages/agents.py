"""The agents of a project, their processes, and what could not be stored of what they sent."""

from __future__ import annotations

import dataclasses
from uuid import UUID

from django.db.models import Count, Max, Min, Prefetch, Q, Sum
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from brain.errors import NotFound
from brain.models import Agent, AgentProcess, Project, Quarantine
from brain.permissions import grants
from brain.states import AgentState
from dashboard.access import Request, project_view

#: Processes shown of one agent, the connected ones first.
PROCESSES = 60
QUARANTINED = 20
#: A clock that is further off than this is worth a badge.
SKEW_MS = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessCard:
    """A process with what its heartbeat says about its engines."""

    process: AgentProcess

    @property
    def skewed(self) -> bool:
        """Whether its clock is off."""
        return abs(self.process.clock_skew_ms or 0) > SKEW_MS

    @property
    def skew_ms(self) -> int:
        """By how much its clock is off."""
        return abs(self.process.clock_skew_ms or 0)

    @property
    def ahead(self) -> bool:
        """Whether its clock is ahead of the brain's."""
        return (self.process.clock_skew_ms or 0) > 0

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What its engines' settings hide or forbid: (engine, sentences)."""
        health = self.process.health if isinstance(self.process.health, dict) else {}
        pairs = ((key.rpartition("."), value) for key, value in health.items() if isinstance(value, str) and value)
        return sorted((key[0], value) for key, value in pairs if key[2] in {"notes", "health_error"})

    @property
    def broker(self) -> list[tuple[str, str]]:
        """Whether its engines reach their brokers: (engine, what it says)."""
        health = self.process.health if isinstance(self.process.health, dict) else {}
        return sorted((key.rpartition(".")[0], str(health[key])) for key in health if key.endswith(".broker_connected"))


@dataclasses.dataclass(frozen=True, slots=True)
class AgentCard:
    """An agent with its processes."""

    agent: Agent
    online: list[ProcessCard]
    offline: list[ProcessCard]
    left_out: int


def agents_of(project: Project) -> list[AgentCard]:
    """Return the agents of a project, those with connected processes first, revoked ones last."""
    processes = AgentProcess.objects.order_by("-state", "-last_seen_at", "-id")[:PROCESSES]
    online = Q(processes__state=AgentState.ONLINE)
    agents = (
        Agent.objects.filter(project=project)
        .prefetch_related(Prefetch("processes", queryset=processes, to_attr="shown"))
        .annotate(
            produced=Sum("processes__produced"),
            # The sum is as old as its oldest part; of processes that are gone, what they told last stays true.
            told_at=Coalesce(Min("processes__told_at", filter=online), Max("processes__told_at")),
            dropped=Sum("processes__dropped"),
            buffered=Sum("processes__buffer_depth", filter=online),
            known=Count("processes"),
            connected=Count("processes", filter=online),
        )
        .order_by("revoked_at", "name")
    )
    cards = []
    for agent in agents:
        shown = [ProcessCard(process) for process in agent.shown]
        cards.append(
            AgentCard(
                agent,
                [card for card in shown if card.process.is_online],
                [card for card in shown if not card.process.is_online],
                agent.known - len(shown),
            )
        )
    return sorted(cards, key=lambda card: (card.agent.revoked_at is not None, not card.online, card.agent.name))


def agent_of(project: Project, identifier: UUID) -> Agent:
    """Return an agent of a project. Raises :class:`NotFound`."""
    agent = Agent.objects.filter(project=project, pk=identifier).first()
    if agent is None:
        raise NotFound
    return agent


@project_view()
def agents(request: Request, project: Project) -> HttpResponse:
    """Render the page, or the part that changes for htmx."""
    context = {
        "project": project,
        "permissions": grants(request.user, project),
        "page": "agents",
        "now": timezone.now(),
        "cards": agents_of(project),
        "quarantine": list(Quarantine.objects.filter(project=project).select_related("agent")[:QUARANTINED]),
    }
    return render(request, f"dashboard/agents/{'body' if request.htmx else 'page'}.html", context)
