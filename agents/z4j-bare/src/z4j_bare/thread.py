"""The agent's thread as the host's threads see it: small, and light to import.

What runs in it (:mod:`z4j_bare.background`) is imported by the thread itself, so that it costs the host no start-up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from z4j_core.adapters import Adapter
from z4j_core.events import TaskEvent
from z4j_core.frames import Hello
from z4j_core.safety import safe_boundary

from z4j_bare.config import AgentConfig
from z4j_bare.forkguard import guard
from z4j_bare.ring import Ring


class AgentThread(threading.Thread):
    """Runs the agent of one process. Started once, stopped once."""

    def __init__(
        self, config: AgentConfig, ring: Ring[TaskEvent], adapters: Mapping[str, Adapter], hello: Hello
    ) -> None:
        super().__init__(name="z4j-agent", daemon=True)
        self.config = config
        self.ring = ring
        self.adapters = adapters
        self.hello = hello
        self.connected = threading.Event()
        self.idle = threading.Event()
        self.stopping = threading.Event()
        self.stop_by = 0.0
        #: Wakes the loop; set by what runs in it.
        self.wake: Callable[[], object] = lambda: None
        #: The buffer's counters as of the last slice; replaced, never changed.
        self.counters: dict[str, Any] = {}

    def run(self) -> None:
        """Run the agent until it is stopped. The outermost frame of the thread: nothing may leave it."""
        with safe_boundary("agent.thread"):
            with guard:
                from z4j_bare.background import serve  # noqa: PLC0415 - see the module's docstring

            serve(self)
        self.connected.clear()

    def stop(self, timeout: float) -> None:
        """Deliver what is there for at most ``timeout`` seconds, then close; what is left stays in the buffer."""
        self.stop_by = time.monotonic() + timeout
        self.stopping.set()
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self.wake()
        if self is not threading.current_thread():
            self.join(timeout + 2.0)
