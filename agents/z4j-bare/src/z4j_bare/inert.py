"""The runtime a host gets when its configuration is wrong: it has the methods, and none of them does anything."""

from __future__ import annotations

from typing import Any

from z4j_core.adapters import FrameworkAdapter
from z4j_core.events import TaskEvent

from z4j_bare.config import AgentConfig
from z4j_bare.runtime import AgentRuntime, RuntimeState


class InertRuntime(AgentRuntime):
    """An agent that was never started and cannot be; ``config`` holds what was valid."""

    def __init__(self, config: AgentConfig, framework: FrameworkAdapter) -> None:
        # Not the base's constructor: it would enter this runtime in the fork and exit hooks.
        self.config = config
        self.engines = ()
        self.schedulers = ()
        self.framework = framework

    @property
    def state(self) -> RuntimeState:
        """Always ``DISABLED``."""
        return RuntimeState.DISABLED

    def start(self) -> None:
        """Do nothing."""

    def ensure_running(self, role: str | None = None) -> None:
        """Do nothing."""

    def stop(self, timeout: float | None = None) -> None:
        """Do nothing."""

    def drain(self, timeout: float | None = None) -> bool:
        """Return ``True``: nothing is waiting."""
        return True

    def record_event(self, event: TaskEvent) -> None:
        """Forget the event."""

    def record_loss(self, count: int, reason: str) -> None:
        """Forget it, too."""

    def wait_connected(self, timeout: float) -> bool:
        """Return ``False`` at once."""
        return False

    def counters(self) -> dict[str, Any]:
        """Return nothing."""
        return {}
