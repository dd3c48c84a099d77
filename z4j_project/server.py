"""The server: Daphne with a start and an end of our own.

Daphne has no lifespan events and cuts sockets when it stops. This subclass starts the gateway's writer and the
periodic jobs when the event loop is ready, and on SIGTERM or SIGINT commits and acknowledges what was received,
closes the sockets with 4012 and ends with status 0. A second signal stops at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from daphne.server import Server as DaphneServer
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from z4j_core import limits

from brain.gateway.admission import Caps
from brain.gateway.hub import hub
from brain.housekeeping import JobThread
from z4j_project.sockets import GuardedHTTPFactory, GuardedWebSocket, SocketFlow

logger = logging.getLogger("z4j.server")
_endpoint: Any = serverFromString

#: Seconds a thread may keep the interpreter while others wait for it. Python's 5 ms would be paid for each of the many
#: short waits of the writer for its database, while frames are parsed on another thread.
SWITCH_INTERVAL = 0.0005
#: New objects after which the interpreter looks for cyclic garbage. Rows make many objects and no cycles.
GARBAGE_THRESHOLD = 50_000
#: Files a brain needs beside its sockets: database connections, logs, the buffer of its own agent.
OTHER_FILES = 256
#: Connections the kernel may complete before the server takes them: a storm must not wait for repeated SYNs.
BACKLOG = 1024


class Server(DaphneServer):
    """Daphne's server with drain, jobs, and connections that are bounded in time and memory."""

    def __init__(self, application: Any, *, on_ready: Callable[[], None] | None = None, **options: Any) -> None:
        options |= {
            "signal_handlers": False,
            "ready_callable": self._ready,
            "websocket_timeout": -1,
            "websocket_max_message_size": limits.MAX_FRAME_BYTES,
            "websocket_max_frame_size": limits.MAX_FRAME_BYTES,
            "server_name": "z4j",
        }
        super().__init__(_metered(application), **options)
        self.admission = hub.admission
        self._on_ready = on_ready
        self.endpoints: list[str]
        self._endpoints: list[str] = []
        self._ports: list[Any] = []
        self._jobs = JobThread()
        self._draining: asyncio.Task[None] | None = None

    def listen_success(self, port: Any) -> None:
        """Keep the port, to stop listening on it before anything else stops."""
        self._ports.append(port)
        super().listen_success(port)

    def run(self) -> None:
        """Serve until stopped."""
        self.admission.caps = _within_files(self.admission.caps)
        # Daphne makes factories of its own in run(); the endpoints are kept from it and get ours once it is ready.
        self._endpoints, self.endpoints = list(self.endpoints), []
        super().run()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Give WebSocket consumers a handle on the socket's flow."""
        if scope["type"] == "websocket":
            scope["z4j.flow"] = protocol.flow
        return super().create_application(protocol, scope)

    def _listen(self) -> None:
        self.ws_factory.protocol = GuardedWebSocket
        # Autobahn would cut the connection of a message that is too big; this makes it say 1009 first.
        self.ws_factory.setProtocolOptions(failByDrop=False)
        self.http_factory = GuardedHTTPFactory(self)
        for description in self._endpoints:
            backlog = "" if description.startswith("fd:") else f":backlog={BACKLOG}"
            listener = _endpoint(reactor, f"{description}{backlog}").listen(self.http_factory)
            listener.addCallback(self.listen_success)
            listener.addErrback(self.listen_error)
            self.listeners.append(listener)

    def _ready(self) -> None:
        self._listen()
        _tune_interpreter()
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


def _tune_interpreter() -> None:
    """Let threads take turns quickly, and look for cyclic garbage seldom and not among what is there for good."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


def _within_files(caps: Caps) -> Caps:
    """Raise the limit of open files as far as allowed; return caps that fit into it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return caps
    room = max(1, hard - OTHER_FILES)
    if caps.total and caps.total <= room:
        return caps
    logger.warning("the limit of open files is %d: at most %d sockets at a time", hard, room)
    return dataclasses.replace(caps, total=room)


def _metered(application: Any) -> Any:
    """Wrap an ASGI application: what it takes and sends over a WebSocket keeps to the pace of both ends."""

    async def run(scope: dict[str, Any], receive: Any, send: Any) -> None:
        flow: SocketFlow | None = scope.get("z4j.flow")
        if flow is None:
            await application(scope, receive, send)
            return

        async def take() -> dict[str, Any]:
            message: dict[str, Any] = await receive()
            if message["type"] == "websocket.receive":
                flow.taken()
            return message

        async def give(message: dict[str, Any]) -> None:
            if message["type"] == "websocket.send":
                await flow.writable()
            await send(message)

        await application(scope, take, give)

    return run


def _finished() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_event_loop().create_future()
    future.set_result(None)
    return future
