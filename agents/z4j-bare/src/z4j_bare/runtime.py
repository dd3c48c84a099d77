"""The runtime a host holds: takes events from hooks and owns the background thread of each process.

Starts nothing before it must: a process that forks gets a thread in every child, on its first event.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from z4j_core.adapters import Adapter, EngineAdapter, FrameworkAdapter, SchedulerAdapter
from z4j_core.events import TaskEvent
from z4j_core.frames import Hello
from z4j_core.safety import logger, safe_boundary
from z4j_core.versions import package_version

from z4j_bare.config import AgentConfig, shown_url
from z4j_bare.forkguard import guard
from z4j_bare.ring import Ring
from z4j_bare.thread import AgentThread

FEATURES = ("z4j_batch_v1",)


class RuntimeState(StrEnum):
    """What the runtime of this process is doing."""

    NEW = "new"
    WAITING = "waiting"  # hooks are installed, the thread starts with the first event or when the engine is ready
    CONNECTING = "connecting"
    CONNECTED = "connected"
    STOPPED = "stopped"
    DISABLED = "disabled"  # a wrong configuration, or a fork in a moment in which no agent can survive one


class AgentRuntime:
    """An agent: its adapters, its configuration and, per process, its background thread.

    Safe to use from any thread and after a fork. Returned by :func:`z4j_bare.install_agent`.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        engines: Sequence[EngineAdapter] = (),
        schedulers: Sequence[SchedulerAdapter] = (),
        framework: FrameworkAdapter | None = None,
    ) -> None:
        self.config = config
        self.engines = tuple(engines)
        self.schedulers = tuple(schedulers)
        self.framework = framework or FrameworkAdapter()
        self._role: str | None = None
        self._stopped = False
        self._installed = False
        self._fresh()
        _runtimes.append(weakref.ref(self))
        atexit.register(_at_exit, weakref.ref(self))

    def _fresh(self) -> None:
        """Give this process its own ring, lock and (later) thread. Called in fork hooks: only assigns."""
        self._pid = os.getpid()
        self._ring: Ring[TaskEvent] = Ring()
        self._thread: AgentThread | None = None
        self._starting = threading.Lock()

    def _after_fork(self) -> None:
        # The parent's thread, loop and SQLite connection must be neither used nor closed here, so they are kept.
        _parked.append((self._thread, self._ring, self._starting))
        self._fresh()

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Install the adapters' hooks and start the thread, unless an engine asks to wait until it has forked.

        A second call changes nothing; after :meth:`stop` it starts again.
        """
        self._stopped = False
        if not self._installed:
            self._installed = True
            for adapter in (*self.engines, *self.schedulers):
                with safe_boundary(f"{adapter.name}.connect"):
                    adapter.connect(self)
        late = self.framework.starts_late or any(adapter.starts_late for adapter in self._adapters().values())
        if not late:
            self.ensure_running()

    def ensure_running(self, role: str | None = None) -> None:
        """Start the thread of this process now, if it does not run. Never raises."""
        with safe_boundary("agent.start"):
            self._check_pid()
            if role is not None and self._thread is None:
                self._role = role
            if self._stopped or not guard.clean or (self._thread is not None and self._thread.is_alive()):
                return
            with self._starting:
                self._start_thread()

    def _start_thread(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        hello = self._hello()
        thread = AgentThread(self.config, self._ring, self._adapters(), hello)
        logger.info(
            "[z4j] agent starting (%s, project %s, brain %s, engines: %s)",
            self.name,
            self.config.project_id,
            shown_url(self.config.url),
            ", ".join(hello.engines) or "none",
        )
        try:
            thread.start()
        except RuntimeError:
            return  # no more threads, or the interpreter is shutting down: the next event tries again
        self._thread = thread

    def stop(self, timeout: float | None = None) -> None:
        """Remove the hooks, deliver for at most ``timeout`` seconds (2 by default) and end the thread.

        What could not be delivered stays in the buffer file, for the next process with the same token.
        """
        for adapter in (*self.engines, *self.schedulers):
            with safe_boundary(f"{adapter.name}.disconnect"):
                adapter.disconnect()
        self._installed = False
        self._stopped = True
        if self._thread is not None and self._pid == os.getpid():
            self._thread.stop(self.config.shutdown_timeout if timeout is None else timeout)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything recorded is acknowledged, at most ``timeout`` seconds (2 by default)."""
        deadline = time.monotonic() + (self.config.shutdown_timeout if timeout is None else timeout)
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return not len(self._ring)
        thread.idle.clear()
        while time.monotonic() < deadline:
            if thread.idle.wait(min(0.05, max(0.0, deadline - time.monotonic()))) and not len(self._ring):
                return True
        return False

    # -- for adapters and hosts ---------------------------------------------------------------------------------------

    def record_event(self, event: TaskEvent) -> None:
        """Take over one event; it is delivered later. Never blocks, never raises."""
        with safe_boundary("agent.record"):
            # Without a thread nothing would ever empty the ring.
            if self._stopped or not guard.clean:
                return
            self._check_pid()
            self._ring.put(event)
            if self._thread is None and self._installed:
                self.ensure_running()

    def record_loss(self, count: int, reason: str) -> None:
        """Count events that an adapter could not hand over. Never blocks, never raises."""
        with safe_boundary("agent.record_loss"):
            if self._stopped or not guard.clean:
                return
            self._check_pid()
            self._ring.lose(count, reason)

    def wait_connected(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the connection to the brain; tell whether it stands."""
        return self._thread is not None and self._thread.connected.wait(timeout)

    def counters(self) -> dict[str, Any]:
        """Return {produced, adopted, sent, acked, buffered, dropped: {reason: n}} of this process."""
        return {} if self._thread is None else dict(self._thread.counters)

    @property
    def name(self) -> str:
        """The agent's name as the brain shows it."""
        return self.config.agent_name or self.framework.default_agent_name()

    @property
    def state(self) -> RuntimeState:
        """What this process's part of the runtime does now."""
        if self._stopped:
            return RuntimeState.STOPPED
        if not guard.clean:
            return RuntimeState.DISABLED
        if self._thread is None or self._pid != os.getpid():
            return RuntimeState.WAITING if self._installed else RuntimeState.NEW
        return RuntimeState.CONNECTED if self._thread.connected.is_set() else RuntimeState.CONNECTING

    def __repr__(self) -> str:
        return f"<AgentRuntime {self.name} {self.state}>"

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check_pid(self) -> None:
        # Some servers fork without Python's hooks being run.
        if self._pid != os.getpid():
            self._after_fork()

    def _adapters(self) -> dict[str, Adapter]:
        return {adapter.name: adapter for adapter in (*self.engines, *self.schedulers)}

    def _capabilities(self, adapter: Adapter) -> list[str]:
        # What the policy never allows is not offered, so that the brain asks another process.
        rules = self.config.rules
        return [action for action in adapter.capabilities() if rules.refuses_action(action) is None]

    def _hello(self) -> Hello:
        config = self.config
        host = {
            **self.framework.host(),
            "name": self.name,
            "environment": config.environment,
            "release": config.release,
        }
        return Hello(
            id=uuid4().hex,
            worker_pid=os.getpid(),
            worker_started_at=datetime.now(UTC).isoformat(),
            agent_version=package_version("z4j-bare"),
            framework=self.framework.name,
            engines=tuple(adapter.name for adapter in self.engines),
            schedulers=tuple(adapter.name for adapter in self.schedulers),
            capabilities={name: self._capabilities(adapter) for name, adapter in self._adapters().items()},
            policy=config.rules.to_wire(),
            host={**host, "tags": dict(config.tags)},
            worker_id=f"{self.framework.name}-{os.getpid()}-{time.time_ns() // 1_000_000}",
            worker_role=self._role or self.framework.role(),
            runtime_features=FEATURES,
        )

    def _finish(self) -> None:
        """At interpreter exit: deliver for a bounded time, or at least write what is in the ring to the buffer."""
        if self._pid != os.getpid() or not guard.clean:
            return
        thread = self._thread
        if thread is not None and thread.is_alive():
            thread.stop(self.config.shutdown_timeout)
        elif len(self._ring):
            # Only for a process that never had a thread: the others have imported it there.
            from z4j_bare.background import open_buffer  # noqa: PLC0415
            from z4j_bare.pipeline import Pipeline  # noqa: PLC0415

            buffer, _ = open_buffer(self.config)
            pipeline = Pipeline(self._ring, buffer, self.config)
            while pipeline.run_slice():
                pass
            buffer.close()


_runtimes: list[weakref.ref[AgentRuntime]] = []
_parked: list[object] = []


def _after_fork_in_child() -> None:
    for reference in _runtimes:
        runtime = reference()
        if runtime is not None:
            runtime._after_fork()


def _at_exit(reference: weakref.ref[AgentRuntime]) -> None:
    runtime = reference()
    if runtime is not None:
        with safe_boundary("agent.exit"):
            runtime._finish()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
