"""The server: Daphne with a start and an end of our own.

Daphne has no lifespan events and cuts sockets when it stops. This subclass starts the gateway's writer and the
periodic jobs when the event loop is ready, and on SIGTERM or SIGINT commits and acknowledges what was received,
closes the sockets with 4012 and ends with status 0. A second signal stops at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from daphne.server import Server as DaphneServer
from z4j_core import limits

from brain.gateway.hub import hub
from brain.housekeeping import JobThread

logger = logging.getLogger("z4j.server")


class SocketFlow:
    """Stops and resumes reading from one socket."""

    def __init__(self, protocol: Any) -> None:
        self._transport = protocol.transport

    def pause(self) -> None:
        """Read no more; the sender's own buffers fill up, which is what slows it down."""
        self._transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        self._transport.resumeProducing()


class Server(DaphneServer):
    """Daphne's server with drain and jobs."""

    def __init__(self, application: Any, *, on_ready: Callable[[], None] | None = None, **options: Any) -> None:
        options |= {
            "signal_handlers": False,
            "ready_callable": self._ready,
            "websocket_timeout": -1,
            "websocket_max_message_size": limits.MAX_FRAME_BYTES,
            "websocket_max_frame_size": limits.MAX_FRAME_BYTES,
            "server_name": "z4j",
        }
        super().__init__(application, **options)
        self._on_ready = on_ready
        self._ports: list[Any] = []
        self._jobs = JobThread()
        self._draining: asyncio.Task[None] | None = None

    def listen_success(self, port: Any) -> None:
        """Keep the port, to stop listening on it before anything else stops."""
        self._ports.append(port)
        super().listen_success(port)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Give WebSocket consumers a handle on the socket's flow."""
        if scope["type"] == "websocket":
            scope["z4j.flow"] = SocketFlow(protocol)
        return super().create_application(protocol, scope)

    def _ready(self) -> None:
        # Autobahn would cut the connection of a message that is too big; this makes it say 1009 first.
        self.ws_factory.setProtocolOptions(failByDrop=False)
        loop = asyncio.get_event_loop()
        loop.call_soon(hub.start)
        self._jobs.start()
        if self._on_ready is not None:
            loop.call_soon(self._on_ready)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop_gracefully)

    def _stop_gracefully(self) -> None:
        if self._draining is not None:
            logger.warning("second signal: stopping at once")
            self.stop()
            return
        self._draining = asyncio.get_event_loop().create_task(self._drain())

    async def _drain(self) -> None:
        logger.info("stopping: no new connections, writing what was received")
        for port in self._ports:
            port.stopListening()
        await hub.drain()
        await asyncio.to_thread(self._jobs.stop)
        logger.info("stopped")
        self.stop()

    def kill_all_applications(self) -> Any:
        """Cancel what still runs; a connection without an application has nothing to cancel."""
        for details in self.connections.values():
            details.setdefault("application_instance", _finished())
        return super().kill_all_applications()


def _finished() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_event_loop().create_future()
    future.set_result(None)
    return future
