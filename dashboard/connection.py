"""How the agents of a project are: the facts that verdicts, empty states and footers are told from."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from django.db.models import Count, Max, Min, Q, Sum

from brain.models import Agent, Project
from brain.states import AgentState


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """Credentials that are valid, their processes, what these hold back or lost; ``last_heard`` counts revoked ones."""

    agents: int = 0
    online: int = 0
    last_heard: datetime | None = None
    quietest: datetime | None = None
    buffered: int = 0
    dropped: int = 0

    @property
    def ever(self) -> bool:
        """Whether an agent was ever heard of."""
        return self.last_heard is not None


def of_project(project: Project) -> Connection:
    """Return how the agents of a project are."""
    valid = Q(revoked_at=None)
    online = valid & Q(processes__state=AgentState.ONLINE)
    row = Agent.objects.filter(project=project).aggregate(
        agents=Count("id", distinct=True, filter=valid),
        online=Count("processes__id", filter=online),
        last_heard=Max("processes__last_seen_at"),
        agent_heard=Max("last_seen_at"),
        quietest=Min("processes__last_seen_at", filter=online),
        buffered=Sum("processes__buffer_depth", filter=online),
        dropped=Sum("processes__dropped", filter=valid),
    )
    return Connection(
        agents=row["agents"],
        online=row["online"],
        last_heard=max(filter(None, (row["last_heard"], row["agent_heard"])), default=None),
        quietest=row["quietest"],
        buffered=row["buffered"] or 0,
        dropped=row["dropped"] or 0,
    )
