"""How the agents of a project are: the facts that verdicts, empty states and footers are told from."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from django.db.models import Count, Max, Min, Q, Sum

from brain.models import Agent, Project
from brain.states import AgentState


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """Credentials that are valid, processes that are connected, and what they hold back or lost."""

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
    online = Q(processes__state=AgentState.ONLINE)
    row = Agent.objects.filter(project=project, revoked_at=None).aggregate(
        agents=Count("id", distinct=True),
        online=Count("processes__id", filter=online),
        last_heard=Max("processes__last_seen_at"),
        quietest=Min("processes__last_seen_at", filter=online),
        buffered=Sum("processes__buffer_depth", filter=online),
        dropped=Sum("processes__dropped"),
    )
    return Connection(
        agents=row["agents"],
        online=row["online"],
        last_heard=row["last_heard"],
        quietest=row["quietest"],
        buffered=row["buffered"] or 0,
        dropped=row["dropped"] or 0,
    )
