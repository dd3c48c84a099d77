"""What the agent tells about itself and its engines with every heartbeat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from z4j_core.adapters import Adapter
from z4j_core.errors import Z4JError
from z4j_core.frames import AgentStatus, Heartbeat
from z4j_core.offload import Offload
from z4j_core.safety import safe_boundary
from z4j_core.versions import package_version

from z4j_bare.backoff import Failure
from z4j_bare.buffer import BufferStore

_HEALTH_TIMEOUT = 15.0
_HEALTH_VALUE = 128 * 1024


class EngineHealth:
    """The last known state of each engine; asking may block, so it is done on another thread."""

    def __init__(self, adapters: Mapping[str, Adapter], offload: Offload) -> None:
        self._adapters = adapters
        self._offload = offload
        self._known: dict[str, dict[str, str]] = {}

    async def refresh(self) -> None:
        """Ask every adapter; one that does not answer in 15 s keeps what it said before."""
        await asyncio.gather(*(self._ask(name, adapter) for name, adapter in self._adapters.items()))

    async def _ask(self, name: str, adapter: Adapter) -> None:
        with safe_boundary(f"{name}.health"):
            try:
                future = asyncio.wrap_future(self._offload.submit(adapter.health))
                health = await asyncio.wait_for(future, _HEALTH_TIMEOUT)
            except (TimeoutError, Z4JError) as error:
                health = {**self._known.get(name, {}), f"{name}.health_error": str(error) or "no answer within 15 s"}
            self._known[name] = {str(key): str(value)[:_HEALTH_VALUE] for key, value in health.items()}

    def current(self) -> dict[str, str]:
        """Return all engines' health in one mapping."""
        return {key: value for health in self._known.values() for key, value in health.items()}


class Vitals:
    """Builds the two frames of a heartbeat out of the buffer and the connection's history."""

    def __init__(self, buffer: BufferStore, engines: tuple[str, ...], schedulers: tuple[str, ...]) -> None:
        self._buffer = buffer
        self._engines = engines
        self._schedulers = schedulers
        self.runtime_id = buffer.epoch
        self._version = package_version("z4j-bare")
        self.last_ack: float | None = None
        self.connected_at: float | None = None
        self.streaks: dict[Failure, int] = {}
        self._session_start = time.monotonic()

    def connected(self) -> None:
        """Note that a session has begun."""
        self.connected_at = time.time()
        self._session_start = time.monotonic()

    def heartbeat(self, identifier: str, health: dict[str, str]) -> Heartbeat:
        """Return the heartbeat frame."""
        return Heartbeat(
            id=identifier,
            buffer_size=len(self._buffer),
            last_flush_at=_moment(self.last_ack),
            dropped_events=sum(self._buffer.counters()["dropped"].values()),
            telemetry_loss=self.telemetry_loss(),
            adapter_health=health,
        )

    def told(self, heartbeat: Heartbeat) -> None:
        """Note that a heartbeat was written to the socket."""
        self._buffer.told((heartbeat.telemetry_loss or {})["counters"])

    def status(self, identifier: str) -> AgentStatus:
        """Return the agent_status frame."""
        return AgentStatus(
            id=identifier,
            telemetry_loss=self.telemetry_loss(),
            auth_failure_streak=self.streaks.get(Failure.AUTH, 0),
            protocol_failure_streak=self.streaks.get(Failure.INCOMPATIBLE, 0),
            connection_failure_streak=self.streaks.get(Failure.NETWORK, 0),
            last_successful_connect_at=_moment(self.connected_at),
            current_session_age_seconds=round(time.monotonic() - self._session_start, 3),
            buffer_depth=len(self._buffer),
            buffer_oldest_age_seconds=self._buffer.oldest_age(),
            agent_version=self._version,
            engines=self._engines,
            schedulers=self._schedulers,
        )

    def telemetry_loss(self) -> dict[str, Any]:
        """Return what was lost, in the wire's words, with our ``gap`` entries and the complete ``counters``."""
        counters = self._buffer.counters()
        dropped = counters["dropped"]
        evicted = sum(dropped.get(reason, 0) for reason in ("buffer_full", "ring_full"))
        total = sum(dropped.values())
        return {
            "buffer_id": self._buffer.epoch,
            "runtime_id": self.runtime_id,
            "capacity_evicted_frames": evicted,
            "content_rejected_frames": total - evicted,
            "event_records": total,
            "command_results": 0,
            "other_frames": 0,
            "unclassified_frames": 0,
            "adapter_events": {},
            "gap": self._buffer.gaps(),
            "counters": counters,
        }


def _moment(timestamp: float | None) -> str | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC).isoformat()
