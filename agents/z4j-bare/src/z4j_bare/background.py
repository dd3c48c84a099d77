"""What the agent's thread does: empties the ring into the buffer and keeps a connection to the brain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from z4j_core.frames import HelloAck
from z4j_core.offload import Offload
from z4j_core.policy import Gate
from z4j_core.safety import log_once, logger, safe_boundary

from z4j_bare import bufferfiles
from z4j_bare.backoff import Backoff, Failure, classify, explain
from z4j_bare.buffer import BufferStore
from z4j_bare.config import AgentConfig, shown_url
from z4j_bare.connection import Connection, Mailbox, Services
from z4j_bare.dispatcher import Dispatcher
from z4j_bare.heartbeat import EngineHealth, Vitals
from z4j_bare.pipeline import SLICE, Pipeline
from z4j_bare.thread import AgentThread
from z4j_bare.transports.base import Transport, TransportClosed
from z4j_bare.transports.websocket import open_websocket
from z4j_bare.window import Window

_POLL_IDLE = 0.1
_POLL_BUSY = 0.01
_ADOPT_EVERY = 60.0
_LEAVE_AT_LEAST = 0.05

Opener = Callable[[AgentConfig], Awaitable[Transport]]


def open_buffer(config: AgentConfig) -> tuple[BufferStore, Path | None]:
    """Return this process's buffer and its directory; one in memory when no file can be had."""
    folder = bufferfiles.directory(config.buffer_path)
    path = None if folder is None else folder / f"buffer-{config.identity}-{os.getpid()}-{time.time_ns() // 1000}.db"
    try:
        return BufferStore(path, max_rows=config.buffer_size, max_bytes=config.buffer_bytes), folder
    except (sqlite3.Error, OSError) as error:
        log_once("buffer.open", f"the event buffer cannot be opened ({error}): events are kept in memory only")
        return BufferStore(None, max_rows=config.buffer_size), None


def serve(thread: AgentThread) -> None:
    """Run the agent of ``thread`` until it is stopped."""

    async def main() -> None:
        await _Agent(thread).main()

    asyncio.run(main())


class _Agent:
    """The tasks of the agent's loop and what they share."""

    def __init__(self, thread: AgentThread, opener: Opener = open_websocket) -> None:
        self._thread = thread
        self._opener = opener
        self._backoff = Backoff(thread.config.reconnect_backoff_max)
        self._said = ""
        self._connection: Connection | None = None
        self._empty = asyncio.Event()
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        thread.wake = lambda: loop.call_soon_threadsafe(self._stop.set)
        if thread.stopping.is_set():
            self._stop.set()
        self._buffer, self._folder = open_buffer(thread.config)
        self._mailbox = Mailbox()
        self._pipeline = Pipeline(thread.ring, self._buffer, thread.config)
        self._window = Window(self._buffer)
        self._vitals = Vitals(self._buffer, thread.hello.engines, thread.hello.schedulers)
        self._services = Services(
            secret=thread.config.secret,
            window=self._window,
            mailbox=self._mailbox,
            dispatcher=Dispatcher(
                thread.adapters, self._buffer, Offload(), self._mailbox.put, Gate(thread.config.rules)
            ),
            vitals=self._vitals,
            health=EngineHealth(thread.adapters, Offload()),
            heartbeat_interval=thread.config.heartbeat_interval,
            on_ready=self._on_ready,
            on_ack=self._backoff.succeeded,
        )

    async def main(self) -> None:
        """Work until the thread is asked to stop, then deliver and persist what is left."""
        try:
            pump = asyncio.create_task(self._pump())
            link = asyncio.create_task(self._stay_connected())
            await self._stop.wait()
            await self._deliver_rest()
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            while self._pipeline.run_slice():
                pass
            await self._take_leave()
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)
        finally:
            self._thread.counters = self._buffer.counters()
            self._buffer.close()

    async def _pump(self) -> None:
        thread = self._thread
        adopt_at = 0.0
        while True:
            moved = 0
            with safe_boundary("agent.pump"):
                moved = self._pipeline.run_slice()
                if self._folder is not None and time.monotonic() >= adopt_at:
                    adopt_at = time.monotonic() + _ADOPT_EVERY
                    moved += self._buffer.adopt(self._folder, thread.config.identity)
                thread.counters = self._buffer.counters()
            if moved:
                self._mailbox.ready.set()
            if self._unfinished():
                thread.idle.clear()
            else:
                thread.idle.set()
                self._empty.set()
            await asyncio.sleep(0 if moved == SLICE else _POLL_BUSY if moved else _POLL_IDLE)

    def _unfinished(self) -> bool:
        return bool(len(self._thread.ring) or len(self._buffer) or self._mailbox.frames)

    async def _deliver_rest(self) -> None:
        self._empty.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), self._thread.stop_by - time.monotonic())

    async def _take_leave(self) -> None:
        connection = self._connection
        if connection is None or not self._thread.connected.is_set():
            return
        # A peer that reads takes the two frames at once; one that does not must not hold the host's exit.
        seconds = max(_LEAVE_AT_LEAST, self._thread.stop_by - time.monotonic())
        with safe_boundary("agent.farewell"), contextlib.suppress(TimeoutError, TransportClosed):
            await asyncio.wait_for(connection.farewell(), seconds)

    async def _stay_connected(self) -> None:
        while True:
            failure, poisoned = Failure.NETWORK, False
            with safe_boundary("agent.connection"):
                try:
                    await self._connect_once()
                except TransportClosed as closed:
                    failure = classify(closed.code, closed.status)
                    poisoned = self._window.closed(closed.code)
                    self._say(self._explain(closed), failure)
            self._thread.connected.clear()
            self._connection = None
            if poisoned:
                # The next try isolates the frame the brain could not take; it is no sign of trouble with the brain.
                self._backoff.succeeded()
            delay = self._backoff.delay(failure)
            self._vitals.streaks = dict(self._backoff.streaks)
            await asyncio.sleep(delay)

    async def _connect_once(self) -> None:
        transport = await self._opener(self._thread.config)
        self._connection = Connection(transport, self._services)
        try:
            await self._connection.run(self._thread.hello)
        finally:
            await transport.close(1000, "the agent stops")

    def _on_ready(self, ack: HelloAck) -> None:
        self._said = ""
        self._thread.connected.set()
        logger.info("[z4j] connected (brain %s, project %s, agent %s)", ack.brain_version, ack.project_id, ack.agent_id)

    def _explain(self, closed: TransportClosed) -> str:
        told = self._connection.last_error if self._connection is not None else ""
        if closed.status is not None and closed.status < 500:
            return (
                f"the brain's address answered HTTP {closed.status} to the WebSocket upgrade at "
                f"{shown_url(self._thread.config.url)}: is the path right, does a proxy allow WebSockets?"
            )
        if closed.code is None and closed.message:
            return closed.message
        return explain(closed.code, told or closed.message)

    def _say(self, text: str, failure: Failure) -> None:
        level = logger.debug if text == self._said else logger.warning
        self._said = text
        more = "" if failure is Failure.NETWORK else " The agent keeps trying, more slowly."
        sentence = text if text.endswith("?") else f"{text.rstrip('.')}."
        level("[z4j] not connected: %s Events are kept.%s", sentence, more)
