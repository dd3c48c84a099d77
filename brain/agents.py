"""Agent processes: who is connected, what it can do and how it is. The only writer of their table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from z4j_core import limits
from z4j_core.errors import FrameError
from z4j_core.frames import AgentStatus, Heartbeat, Hello, parse_json
from z4j_core.text import clean_json, clean_text

from brain import live, tokens
from brain.models import Agent, AgentProcess, Queue
from brain.states import AgentState

#: What is read of a process's capabilities.
MAX_ENGINES, MAX_ACTIONS = 32, 100
#: Queues whose depth is taken from one heartbeat.
MAX_QUEUES = 500
#: Processes one credential may have connected at a time; beyond it connections are refused with 4429.
MAX_PROCESSES = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """What the gateway needs to know of an agent; the key stays out of its repr."""

    agent_id: UUID
    project_id: UUID
    agent_name: str
    project_slug: str
    retention_days: int
    secret: bytes = dataclasses.field(repr=False)
    processes: int = 0


def authenticate(token: str) -> Credential | None:
    """Return the credential of a bearer token, None when it is not valid."""
    found = tokens.find(token)
    if found is None:
        return None
    agent, secret = found
    return Credential(
        agent_id=agent.id,
        project_id=agent.project_id,
        agent_name=agent.name,
        project_slug=agent.project.slug,
        retention_days=agent.project.event_retention_days,
        secret=secret,
        processes=AgentProcess.objects.filter(agent=agent, state=AgentState.ONLINE).count(),
    )


def announced(hello: Hello) -> dict[str, frozenset[str]]:
    """Return the actions a process announces, by engine; what cannot be one is passed over."""
    return {
        _name(engine): frozenset(one for one in actions[:MAX_ACTIONS] if isinstance(one, str) and one.isidentifier())
        for engine, actions in list(hello.capabilities.items())[:MAX_ENGINES]
        if isinstance(actions, list)
    }


def connected(credential: Credential, hello: Hello, session_id: str, skew_ms: int | None) -> None:
    """Note a new connection; an older row of the same identity becomes this one."""
    now = timezone.now()
    host = hello.host or {}
    worker_id = _name(hello.worker_id)
    AgentProcess.objects.update_or_create(
        agent_id=credential.agent_id,
        worker_id=worker_id,
        defaults={
            "project_id": credential.project_id,
            "session_id": session_id,
            "state": AgentState.ONLINE,
            "name": _name(host.get("agent_name") or host.get("name") or credential.agent_name),
            "host": _name(host.get("hostname") or host.get("name")),
            "pid": hello.worker_pid,
            "role": _name(hello.worker_role)[:32],
            "framework": _name(hello.framework)[:64],
            "agent_version": _name(hello.agent_version)[:64],
            "release": _name(host.get("release"))[:100],
            "environment": _name(host.get("environment"))[:64],
            "engines": clean_json(hello.engines),
            "schedulers": clean_json(hello.schedulers),
            "capabilities": {engine: sorted(actions) for engine, actions in announced(hello).items()},
            "features": clean_json(hello.runtime_features),
            "clock_skew_ms": skew_ms,
            "connected_at": now,
            "last_seen_at": now,
            "disconnected_at": None,
        },
    )
    Agent.objects.filter(id=credential.agent_id).update(last_seen_at=now)
    live.changed({credential.project_id})


def disconnected(project_id: UUID, session_id: str) -> None:
    """Note the end of a connection, unless a newer one has taken its row."""
    now = timezone.now()
    rows = AgentProcess.objects.filter(session_id=session_id, state=AgentState.ONLINE)
    if rows.update(state=AgentState.OFFLINE, disconnected_at=now):
        live.changed({project_id})


def heard(credential: Credential, session_id: str, frame: Heartbeat | AgentStatus) -> bool:
    """Take over what a heartbeat or a status frame says; False when the credential has been revoked since."""
    now = timezone.now()
    fields: dict[str, Any] = {"last_seen_at": now, "state": AgentState.ONLINE, "disconnected_at": None}
    if isinstance(frame, Heartbeat):
        fields["told_at"] = now
        fields["buffer_depth"] = frame.buffer_size
        fields["dropped"] = frame.dropped_events
        fields |= _accounts(frame.telemetry_loss or {})
        if frame.adapter_health:
            fields["health"] = clean_json(
                {str(k)[:64]: str(v)[: limits.MAX_TEXT] for k, v in frame.adapter_health.items()}
            )
    else:
        fields["buffer_depth"] = frame.buffer_depth
    # In the order the store writes them, queues before the agent, so that the two never wait for each other.
    with transaction.atomic():
        AgentProcess.objects.filter(session_id=session_id).update(**fields)
        if isinstance(frame, Heartbeat):
            _note_depths(credential.project_id, frame.adapter_health, now)
        valid = Agent.objects.filter(id=credential.agent_id, revoked_at=None).update(last_seen_at=now)
    return bool(valid)


def _accounts(loss: Mapping[str, Any]) -> dict[str, int]:
    """Return what an agent says of its own counts; agents that keep none say nothing (wire protocol, additions)."""
    counters = loss.get("counters")
    if not isinstance(counters, dict):
        return {}
    dropped = counters.get("dropped")
    told = {
        "produced": counters.get("produced"),
        "buffer_depth": counters.get("buffered"),
        "dropped": sum(v for v in dropped.values() if isinstance(v, int)) if isinstance(dropped, dict) else None,
    }
    return {name: value for name, value in told.items() if isinstance(value, int) and 0 <= value <= limits.MAX_INT}


def _note_depths(project_id: UUID, health: Mapping[str, Any], now: datetime) -> None:
    """Take over queue depths: ``<engine>.queue_depths`` is JSON inside a string (wire protocol, section 2)."""
    rows = [
        Queue(project_id=project_id, engine=engine, name=name, depth=depth, depth_at=now)
        for (name, engine), depth in sorted(_depths(health).items())[:MAX_QUEUES]
    ]
    if rows:
        Queue.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["project", "name", "engine"],
            update_fields=["depth", "depth_at"],
        )


def _depths(health: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """Return the depths a heartbeat tells, by queue and engine; what is not a depth is passed over."""
    found: dict[tuple[str, str], int] = {}
    for key, value in list(health.items())[: limits.MAX_LIST]:
        engine, _, what = key.partition(".")
        if what != "queue_depths" or not isinstance(value, str):
            continue
        try:
            depths = parse_json(value)
        except FrameError:
            continue
        for name, depth in depths.items():
            if isinstance(depth, int) and not isinstance(depth, bool) and 0 <= depth <= limits.MAX_INT:
                found[_name(name), clean_text(engine)[:32]] = depth
    return found


def touch(session_ids: list[str]) -> None:
    """Note that these connections were heard now: events count as much as heartbeats."""
    now = timezone.now()
    for start in range(0, len(session_ids), 500):
        part = session_ids[start : start + 500]
        AgentProcess.objects.filter(session_id__in=part, state=AgentState.ONLINE).update(last_seen_at=now)


def sweep(silence: timedelta) -> int:
    """Mark processes offline that were not heard of for longer than ``silence``; return how many."""
    now = timezone.now()
    lost = AgentProcess.objects.filter(state=AgentState.ONLINE, last_seen_at__lt=now - silence)
    projects = set(lost.values_list("project_id", flat=True))
    count = lost.update(state=AgentState.OFFLINE, disconnected_at=now)
    live.changed(projects)
    return count


def forget(age: timedelta) -> int:
    """Remove processes that have been offline for longer than ``age``; return how many."""
    gone = AgentProcess.objects.filter(state=AgentState.OFFLINE, last_seen_at__lt=timezone.now() - age)
    return gone.delete()[0]


def able(project_id: UUID, engine: str, action: str) -> QuerySet[AgentProcess]:
    """Return the connected processes that announced ``action`` for ``engine``, the latest heard first."""
    rows = AgentProcess.objects.filter(project_id=project_id, state=AgentState.ONLINE, agent__revoked_at=None).order_by(
        "-last_seen_at"
    )
    ids = [row.pk for row in rows.only("capabilities") if action in capabilities_of(row, engine)]
    return rows.filter(pk__in=ids)


def capabilities_of(process: AgentProcess, engine: str) -> frozenset[str]:
    """Return the actions a process announced for an engine."""
    tokens_ = process.capabilities.get(engine, []) if isinstance(process.capabilities, dict) else []
    return frozenset(token for token in tokens_ if isinstance(token, str)) if isinstance(tokens_, list) else frozenset()


def _name(value: object) -> str:
    return clean_text(value)[: limits.MAX_NAME] if isinstance(value, str) else ""
