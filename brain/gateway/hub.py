"""What the connections of one process share: the writer, the list of themselves, the watch over silent ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from z4j_core import limits

from brain.gateway.handshake import IDLE, RESTARTING
from brain.ingest import Writer
from brain.live import pump

if TYPE_CHECKING:
    from brain.gateway.consumer import AgentConsumer

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
        self.connections: set[AgentConsumer] = set()
        self.draining = False
        self._empty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the writer, the watch and the pump of live hints; needs a running event loop."""
        loop = asyncio.get_running_loop()
        self.draining = False
        self.writer.start(loop)
        self._tasks = [loop.create_task(self._watch()), loop.create_task(pump.run())]

    def joined(self, connection: AgentConsumer) -> None:
        """Count a connection in."""
        self.connections.add(connection)
        self._empty.clear()

    def left(self, connection: AgentConsumer) -> None:
        """Count a connection out."""
        self.connections.discard(connection)
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
        await asyncio.to_thread(self.writer.stop)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            now = time.monotonic()
            for connection in list(self.connections):
                patience = limits.IDLE_TIMEOUT if connection.session else limits.HANDSHAKE_TIMEOUT
                if now - connection.heard_at > patience:
                    await connection.refuse(IDLE, f"nothing was received for {patience:.0f} s")


hub = Hub()
