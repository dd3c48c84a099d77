"""What the connections of one process share: the writer, the list of themselves, the watch over silent ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from django.conf import settings
from z4j_core import limits

from brain.gateway.admission import Admission, Caps, LogThrottle
from brain.gateway.gatekeeper import Gatekeeper
from brain.gateway.handshake import IDLE, RESTARTING
from brain.gateway.presence import Presence
from brain.ingest import Writer
from brain.live import pump

if TYPE_CHECKING:
    from brain.gateway.consumer import AgentConsumer

logger = logging.getLogger("z4j.gateway")

#: Seconds between two looks at silent connections.
WATCH_INTERVAL = 5.0
#: Seconds a drain waits for the acknowledgements of what was received.
DRAIN_TIMEOUT = 20.0
#: Seconds a drain waits for the other ends to close.
CLOSE_TIMEOUT = 2.0


class Hub:
    """Lives on the server's event loop; started and drained by the server."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.presence = Presence(self.writer)
        self.gatekeeper = Gatekeeper()
        self.admission = Admission(_caps())
        self.throttle = LogThrottle()
        self.connections: set[AgentConsumer] = set()
        #: Those of them whose batches wait to be written.
        self.busy: set[AgentConsumer] = set()
        self.draining = False
        self._empty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the writer, the watch and the pump of live hints; needs a running event loop."""
        loop = asyncio.get_running_loop()
        self.draining = False
        self.writer.start(loop)
        self._tasks = [loop.create_task(self._watch()), loop.create_task(pump.run())]

    def joined(self, peer: AgentConsumer) -> None:
        """Count a connection in."""
        self.connections.add(peer)
        self._empty.clear()

    def left(self, peer: AgentConsumer) -> None:
        """Count a connection out."""
        self.connections.discard(peer)
        self.busy.discard(peer)
        if not self.connections:
            self._empty.set()

    async def drain(self) -> None:
        """Commit and acknowledge what was received, then close every connection with 4012."""
        self.draining = True
        connections = list(self.connections)
        if connections:
            await asyncio.wait([asyncio.ensure_future(c.settle()) for c in connections], timeout=DRAIN_TIMEOUT)
            await asyncio.gather(*(c.close(RESTARTING) for c in connections), return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), CLOSE_TIMEOUT)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.presence.settle(), CLOSE_TIMEOUT)
        await asyncio.to_thread(self.writer.stop)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close_silent(self, peer: AgentConsumer) -> None:
        try:
            await peer.refuse(IDLE, f"nothing was received for {limits.IDLE_TIMEOUT:.0f} s")
        except Exception:
            # One socket in a strange state must not end the watch over all others.
            logger.exception("cannot close a silent connection")
            self.left(peer)

    def _note_heard(self, now: float) -> None:
        """Note for those who sent something since the last look that they were heard, in one statement."""
        heard = [c.session.session_id for c in self.connections if c.session and now - c.heard_at <= WATCH_INTERVAL]
        if heard:
            self.presence.touched(heard)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            now = time.monotonic()
            for peer in list(self.connections):
                if peer.is_paused:
                    # It cannot be heard: the silence is ours.
                    peer.heard_at = now
                elif peer.session and now - peer.heard_at > limits.IDLE_TIMEOUT:
                    await self._close_silent(peer)
            self._note_heard(now)


def _caps() -> Caps:
    config = settings.Z4J_CONFIG
    return Caps(config.max_sockets, config.max_sockets_per_address, config.max_sockets_per_agent)


hub = Hub()
