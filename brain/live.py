"""Every group name and message of the channel layer. The messages are hints: the rows are the truth.

``changed`` and ``wake_agent`` may be called from any thread; the pump, which lives on the server's event loop, sends
at most one "changed" a second per project.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

logger = logging.getLogger("z4j.live")

#: Seconds between two hints of one project.
INTERVAL = 1.0


def project_group(project_id: UUID) -> str:
    """Return the group of the browsers that look at a project."""
    return f"project.{project_id}"


def agent_group(agent_id: UUID) -> str:
    """Return the group of the connections of an agent."""
    return f"agent.{agent_id}"


class Pump:
    """Sends the hints of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: set[UUID] = set()
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._sent: dict[UUID, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None

    def note(self, projects: Iterable[UUID] = (), message: tuple[str, dict[str, Any]] | None = None) -> None:
        """Remember what to send and wake the pump. Without a running pump it does nothing: pages also poll."""
        loop, event = self._loop, self._event
        if loop is None or event is None:
            return
        with self._lock:
            self._changed.update(projects)
            if message is not None:
                self._messages.append(message)
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            self._loop = None

    async def run(self) -> None:
        """Send until cancelled."""
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        try:
            while True:
                await self._event.wait()
                self._event.clear()
                pause = await self._flush()
                if pause:
                    self._loop.call_later(pause, self._event.set)
        finally:
            self._loop = None

    async def _flush(self) -> float:
        """Send what is due; return in how many seconds something else will be."""
        now = time.monotonic()
        with self._lock:
            due = {project for project in self._changed if now - self._sent.get(project, -INTERVAL) >= INTERVAL}
            self._changed -= due
            messages, self._messages = self._messages, []
            later = bool(self._changed)
        for project in due:
            self._sent[project] = now
            messages.append((project_group(project), {"type": "project.changed"}))
        layer = get_channel_layer()
        for group, message in messages:
            try:
                await layer.group_send(group, message)
            except (OSError, ConnectionError) as error:
                logger.warning("the channel layer is away, pages and agents fall back to polling: %s", error)
        return INTERVAL / 2 if later else 0.0


pump = Pump()


def changed(projects: Iterable[UUID]) -> None:
    """Tell the open pages of these projects to look again."""
    pump.note(projects=projects)


def wake_agent(agent_id: UUID) -> None:
    """Tell the connections of an agent that a command waits."""
    pump.note(message=(agent_group(agent_id), {"type": "agent.wake"}))


def revoke_agent(agent_id: UUID) -> None:
    """Tell the connections of an agent that its credential is void."""
    pump.note(message=(agent_group(agent_id), {"type": "agent.revoked"}))


def replace_agent(agent_id: UUID, worker_id: str, session_id: str) -> None:
    """Tell older connections of the same identity that a newer one has come."""
    message = {"type": "agent.replaced", "worker_id": worker_id, "session_id": session_id}
    pump.note(message=(agent_group(agent_id), message))
