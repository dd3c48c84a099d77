"""Agent processes: who is connected, what it can do and how it is. The only writer of their table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from z4j_core import limits
from z4j_core.errors import FrameError
from z4j_core.frames import AgentStatus, Heartbeat, Hello, parse_json
from z4j_core.policy import Policy, judge
from z4j_core.text import clean_json, clean_text

from brain import live, tokens
from brain.models import Agent, AgentProcess, Queue
from brain.states import AgentState

T = TypeVar("T")

#: What is read of a process's capabilities.
MAX_ENGINES, MAX_ACTIONS = 32, 100
#: Queues whose depth is taken from one heartbeat.
MAX_QUEUES = 500
#: Rows of one statement.
CHUNK = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """What the gateway needs to know of an agent; the key stays out of its repr."""

    agent_id: UUID
    project_id: UUID
    agent_name: str
    project_slug: str
    retention_days: int
    secret: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """A connection whose ``hello`` was accepted."""

    credential: Credential
    hello: Hello
    session_id: str
    skew_ms: int | None


@dataclasses.dataclass(slots=True)
class News:
    """What is to be noted of connections, by session id; the newest of each kind counts."""

    arrivals: dict[str, Arrival] = dataclasses.field(default_factory=dict)
    beats: dict[str, Beat] = dataclasses.field(default_factory=dict)
    heard: set[str] = dataclasses.field(default_factory=set)
    departures: dict[str, UUID] = dataclasses.field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to note."""
        return not (self.arrivals or self.beats or self.heard or self.departures)

    @property
    def can_wait(self) -> bool:
        """Whether nobody waits for it: neither a connection for its answer, nor a page for who has left."""
        return not (self.arrivals or self.departures)

    def parts(self) -> Iterator[News]:
        """Yield the same news, what each connection says on its own, in the order in which it must be noted."""
        yield from (News(arrivals={session_id: arrival}) for session_id, arrival in self.arrivals.items())
        yield from (News(beats={session_id: beat}) for session_id, beat in self.beats.items())
        yield News(heard=self.heard, departures=self.departures)


@dataclasses.dataclass(slots=True)
class Beat:
    """What the newest heartbeat and status frame of a connection say."""

    credential: Credential
    heartbeat: Heartbeat | None = None
    #: The depth of the buffer, when a status frame told it after the heartbeat.
    depth: int | None = None

    def take(self, frame: Heartbeat | AgentStatus) -> None:
        """Put a frame in the place of an older one."""
        if isinstance(frame, Heartbeat):
            self.heartbeat, self.depth = frame, None
        else:
            self.depth = frame.buffer_depth


def authenticate(token: str) -> Credential | None:
    """Return the credential of a bearer token, None when it is not valid."""
    return authenticate_all([token])[0]


def authenticate_all(bearers: Sequence[str]) -> list[Credential | None]:
    """Return the credential of each bearer token, None for one that is not valid; one query for all of them."""
    found = tokens.find_all(set(bearers))
    return [_credential(*found[bearer]) if bearer in found else None for bearer in bearers]


def _credential(agent: Agent, secret: bytes) -> Credential:
    return Credential(
        agent_id=agent.id,
        project_id=agent.project_id,
        agent_name=agent.name,
        project_slug=agent.project.slug,
        retention_days=agent.project.event_retention_days,
        secret=secret,
    )


def announced(hello: Hello) -> dict[str, frozenset[str]]:
    """Return the actions a process announces, by engine; what cannot be one is passed over."""
    return {
        _name(engine): frozenset(one for one in actions[:MAX_ACTIONS] if isinstance(one, str) and one.isidentifier())
        for engine, actions in list(hello.capabilities.items())[:MAX_ENGINES]
        if isinstance(actions, list)
    }


def note(news: News) -> set[UUID]:
    """Write what is known of connections in one transaction; return the agents whose credential is void by now.

    Rows are written in the order the store writes them, processes and queues before the agent, and each kind in the
    order of its key, so that two writers never wait for each other.
    """
    now = timezone.now()
    with transaction.atomic():
        _note_arrivals(list(news.arrivals.values()), now)
        _note_heard(news, now)
        _note_departures(list(news.departures), now)
        _note_depths([beat for beat in news.beats.values() if beat.heartbeat], now)
        void = _note_agents(news, now)
    live.changed({arrival.credential.project_id for arrival in news.arrivals.values()} | set(news.departures.values()))
    return void


def connected(credential: Credential, hello: Hello, session_id: str, skew_ms: int | None) -> None:
    """Note a new connection; an older row of the same identity becomes this one."""
    note(News(arrivals={session_id: Arrival(credential, hello, session_id, skew_ms)}))


def disconnected(project_id: UUID, session_id: str) -> None:
    """Note the end of a connection, unless a newer one has taken its row."""
    note(News(departures={session_id: project_id}))


def _note_arrivals(arrivals: list[Arrival], now: datetime) -> None:
    rows = {(row.agent_id, row.worker_id): row for row in (_process(arrival, now) for arrival in arrivals)}
    for part in _batched([rows[key] for key in sorted(rows)], CHUNK):
        AgentProcess.objects.bulk_create(
            part, update_conflicts=True, unique_fields=["agent", "worker_id"], update_fields=_SAID_IN_HELLO
        )


_SAID_IN_HELLO = [
    *("project", "session_id", "state", "name", "host", "pid", "role", "framework", "agent_version", "release"),
    *("environment", "engines", "schedulers", "capabilities", "features", "policy", "clock_skew_ms"),
    *("connected_at", "last_seen_at", "disconnected_at"),
]


def _process(arrival: Arrival, now: datetime) -> AgentProcess:
    credential, hello = arrival.credential, arrival.hello
    host = hello.host or {}
    return AgentProcess(
        agent_id=credential.agent_id,
        worker_id=_name(hello.worker_id),
        project_id=credential.project_id,
        session_id=arrival.session_id,
        state=AgentState.ONLINE,
        name=_name(host.get("agent_name") or host.get("name") or credential.agent_name),
        host=_name(host.get("hostname") or host.get("name")),
        pid=hello.worker_pid,
        role=_name(hello.worker_role)[:32],
        framework=_name(hello.framework)[:64],
        agent_version=_name(hello.agent_version)[:64],
        release=_name(host.get("release"))[:100],
        environment=_name(host.get("environment"))[:64],
        engines=clean_json(hello.engines),
        schedulers=clean_json(hello.schedulers),
        capabilities={engine: sorted(actions) for engine, actions in announced(hello).items()},
        features=clean_json(hello.runtime_features),
        policy=_policy(hello),
        clock_skew_ms=arrival.skew_ms,
        connected_at=now,
        last_seen_at=now,
        disconnected_at=None,
    )


def _policy(hello: Hello) -> dict[str, Any] | None:
    """Return the policy a process announces as it can be read back, None when it announced none."""
    policy = Policy.from_wire(hello.policy)
    return clean_json(policy.to_wire()) if policy is not None else None


def _note_heard(news: News, now: datetime) -> None:
    """Note that connections were heard, and what their heartbeats say; those that say the same share a statement."""
    for part in _batched(sorted(news.heard - news.beats.keys()), CHUNK):
        AgentProcess.objects.filter(session_id__in=part, state=AgentState.ONLINE).update(last_seen_at=now)
    alike: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for session_id, beat in sorted(news.beats.items()):
        fields = _told(beat, now)
        alike.setdefault(repr(fields), (fields, []))[1].append(session_id)
    for fields, session_ids in alike.values():
        for part in _batched(session_ids, CHUNK):
            AgentProcess.objects.filter(session_id__in=part).update(
                last_seen_at=now, state=AgentState.ONLINE, disconnected_at=None, **fields
            )


def _told(beat: Beat, now: datetime) -> dict[str, Any]:
    """Return the columns of a process that its newest frames fill."""
    fields: dict[str, Any] = {}
    if beat.heartbeat is not None:
        frame = beat.heartbeat
        fields |= {"told_at": now, "buffer_depth": frame.buffer_size, "dropped": frame.dropped_events}
        fields |= _accounts(frame.telemetry_loss or {})
        if frame.adapter_health:
            fields["health"] = clean_json(
                {str(k)[:64]: str(v)[: limits.MAX_TEXT] for k, v in frame.adapter_health.items()}
            )
    if beat.depth is not None:
        fields["buffer_depth"] = beat.depth
    return fields


def _note_departures(session_ids: list[str], now: datetime) -> None:
    for part in _batched(sorted(session_ids), CHUNK):
        rows = AgentProcess.objects.filter(session_id__in=part, state=AgentState.ONLINE)
        rows.update(state=AgentState.OFFLINE, disconnected_at=now)


def _note_agents(news: News, now: datetime) -> set[UUID]:
    """Note that agents were heard; return those whose credential is void."""
    arrived = {arrival.credential.agent_id for arrival in news.arrivals.values()}
    ids = sorted(arrived | {beat.credential.agent_id for beat in news.beats.values()})
    valid: set[UUID] = set()
    for part in _batched(ids, CHUNK):
        rows = Agent.objects.filter(id__in=part, revoked_at=None)
        valid.update(rows.select_for_update().order_by("id").values_list("id", flat=True))
        rows.update(last_seen_at=now)
    return set(ids) - valid


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


def _note_depths(beats: list[Beat], now: datetime) -> None:
    """Take over queue depths: ``<engine>.queue_depths`` is JSON inside a string (wire protocol, section 2)."""
    depths: dict[tuple[UUID, str, str], int] = {}
    for beat in beats:
        assert beat.heartbeat is not None
        told = sorted(_depths(beat.heartbeat.adapter_health).items())[:MAX_QUEUES]
        depths |= {(beat.credential.project_id, name, engine): depth for (name, engine), depth in told}
    rows = [
        Queue(project_id=project_id, engine=engine, name=name, depth=depth, depth_at=now)
        for (project_id, name, engine), depth in sorted(depths.items())
    ]
    for part in _batched(rows, CHUNK):
        Queue.objects.bulk_create(
            part,
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


def serving(project_id: UUID, engine: str) -> list[AgentProcess]:
    """Return the connected processes that have ``engine``, the latest heard first, without their health."""
    rows = AgentProcess.objects.filter(project_id=project_id, state=AgentState.ONLINE, agent__revoked_at=None)
    found = rows.defer("health").order_by("-last_seen_at")
    return [process for process in found if engine in process.capabilities or engine in process.engines]


def refusal(process: AgentProcess, action: str, parameters: Mapping[str, Any]) -> str:
    """Return why a process's announced policy will refuse a command, empty when it announced nothing against it."""
    policy = Policy.from_wire(process.policy) if isinstance(process.policy, dict) else None
    return (judge(policy, action, parameters) or "") if policy is not None else ""


def capabilities_of(process: AgentProcess, engine: str) -> frozenset[str]:
    """Return the actions a process announced for an engine."""
    tokens_ = process.capabilities.get(engine, []) if isinstance(process.capabilities, dict) else []
    return frozenset(token for token in tokens_ if isinstance(token, str)) if isinstance(tokens_, list) else frozenset()


def _batched(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``rows`` in parts of at most ``size``."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _name(value: object) -> str:
    return clean_text(value)[: limits.MAX_NAME] if isinstance(value, str) else ""
