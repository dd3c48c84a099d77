"""Every group name and message of the channel layer. The messages are hints: the rows are the truth.

``changed`` and ``wake_agent`` may be called from any thread; the pump, which lives on the server's event loop, sends
at most one "changed" a second per project.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

logger = logging.getLogger("z4j.live")

Deliver = Callable[[dict[str, Any]], Awaitable[None]]

#: Seconds between two hints of one project.
INTERVAL = 1.0
#: Seconds after which a listener joins its group again, and between two attempts while the layer is away.
REJOIN = 3600.0
PAUSE = 5.0
#: Seconds between two lines about a layer that is away.
WARN_EVERY = 60.0


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
            except Exception as error:
                _away(error)
                # Those of this process can still be told.
                for deliver in list(_listeners.get(group, ())):
                    await deliver(message)
        return INTERVAL / 2 if later else 0.0


pump = Pump()
_listeners: defaultdict[str, set[Deliver]] = defaultdict(set)
_warned_at = -WARN_EVERY


def _away(error: Exception) -> None:
    """Note a failure of the channel layer. Each kind of layer has its own errors; none costs more than hints."""
    global _warned_at  # noqa: PLW0603 - one line for the whole process
    now = time.monotonic()
    if now - _warned_at >= WARN_EVERY:
        _warned_at = now
        logger.warning("the channel layer is away, pages and agents fall back to polling: %s", error)


async def listen(group: str, deliver: Deliver) -> None:
    """Pass on what is sent to a group until cancelled, whatever becomes of the channel layer meanwhile.

    A layer forgets its members: when it is started anew, and each of them after a day.
    """
    layer = get_channel_layer()
    channel = await layer.new_channel()
    _listeners[group].add(deliver)
    try:
        while True:
            try:
                await layer.group_add(group, channel)
                await _hear(layer, channel, deliver)
            except Exception as error:
                _away(error)
                await asyncio.sleep(PAUSE)
    finally:
        _listeners[group].discard(deliver)
        if not _listeners[group]:
            del _listeners[group]
        with contextlib.suppress(Exception):
            await layer.group_discard(group, channel)


async def _hear(layer: Any, channel: str, deliver: Deliver) -> None:
    end = time.monotonic() + REJOIN
    while (left := end - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(layer.receive(channel), left)
        except TimeoutError:
            return
        await deliver(message)


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
