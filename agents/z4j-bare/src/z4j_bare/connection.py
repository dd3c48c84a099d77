"""One connection to the brain, from the handshake to the close. The transport is given; the buffer outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn
from uuid import uuid4

from z4j_core import limits
from z4j_core.errors import ClockSkewError, FrameError, SignatureError, UnknownFrameType
from z4j_core.frames import (
    CommandFrame,
    CommandResultFrame,
    ErrorFrame,
    EventBatchAck,
    Frame,
    Hello,
    HelloAck,
    decode,
    decode_payload,
    encode,
    parse_json,
)
from z4j_core.safety import log_once, logger
from z4j_core.signing import Binding, Signer, Verifier, canonical, utc_now
from z4j_core.versions import compatible

from z4j_bare.dispatcher import Dispatcher
from z4j_bare.heartbeat import EngineHealth, Vitals
from z4j_bare.transports.base import Transport, TransportClosed
from z4j_bare.window import Batch, Window, payload_of

#: Bytes of an event frame that are not its events, generously.
_ENVELOPE = 1024
_OVERDUE_CHECK = 5.0
#: Seconds within which what was written may still have been lost with the connection.
_UNCERTAIN = 10.0


@dataclasses.dataclass(slots=True)
class Mailbox:
    """Answers waiting for a connection, and the signal that there is something to send."""

    frames: deque[Frame] = dataclasses.field(default_factory=lambda: deque(maxlen=1000))
    ready: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    _written: deque[tuple[float, Frame]] = dataclasses.field(default_factory=lambda: deque(maxlen=100))

    def put(self, frame: Frame) -> None:
        """Add one answer; the oldest is given up when a thousand wait."""
        self.frames.append(frame)
        self.ready.set()

    def take(self, now: float) -> Frame:
        """Return the oldest answer, to be written now (monotonic seconds)."""
        frame = self.frames.popleft()
        if isinstance(frame, CommandResultFrame):
            self._written.append((now, frame))
        return frame

    def restore(self, now: float) -> None:
        """Put back what was written in the last 10 s of a connection that broke: nobody acknowledges a result.

        A brain that did get it has the same result twice, under the same id.
        """
        self.frames.extendleft(frame for at, frame in reversed(self._written) if now - at < _UNCERTAIN)
        self._written.clear()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a connection works with and does not own."""

    secret: bytes
    window: Window
    mailbox: Mailbox
    dispatcher: Dispatcher
    vitals: Vitals
    health: EngineHealth
    heartbeat_interval: float | None
    on_ready: Callable[[HelloAck], None]
    on_ack: Callable[[], None]


class Connection:
    """Speaks the protocol over one open transport."""

    def __init__(self, transport: Transport, services: Services) -> None:
        self._transport = transport
        self._services = services
        self._sealing = asyncio.Lock()
        self._signer: Signer
        self._verifier: Verifier
        self.last_error = ""

    async def run(self, hello: Hello) -> NoReturn:
        """Greet the brain and work until the connection ends, which raises :class:`TransportClosed`."""
        ack = await self._handshake(hello)
        binding = Binding(ack.agent_id, ack.project_id, ack.session_id)
        self._signer = Signer(self._services.secret, binding)
        self._verifier = Verifier(self._services.secret, binding)
        self._services.window.restart(ack.max_frame_size_bytes - _ENVELOPE)
        self._services.vitals.connected()
        self._services.on_ready(ack)
        interval = self._services.heartbeat_interval or ack.heartbeat_interval_seconds
        await _first_to_fail(
            self._receive(), self._send_all(), self._beat(min(float(interval), limits.IDLE_TIMEOUT / 3))
        )

    # -- handshake --------------------------------------------------------------------------------------------------

    async def _handshake(self, hello: Hello) -> HelloAck:
        await self._transport.send(canonical(encode(dataclasses.replace(hello, ts=utc_now()))))
        try:
            async with asyncio.timeout(limits.HANDSHAKE_TIMEOUT):
                while True:
                    frame = decode(parse_json(await self._transport.receive()))
                    if isinstance(frame, HelloAck):
                        break
                    if isinstance(frame, ErrorFrame):
                        self._note_error(frame)
        except TimeoutError:
            raise TransportClosed("the brain did not answer the handshake within 10 s") from None
        except FrameError as error:
            raise TransportClosed(f"the brain's handshake is not valid: {error}", code=error.close_code) from None
        if not compatible(frame.protocol_version):
            raise TransportClosed(f"the brain speaks protocol {frame.protocol_version}", code=4426)
        return frame

    # -- brain to agent ---------------------------------------------------------------------------------------------

    async def _receive(self) -> NoReturn:
        while True:
            raw = await self._transport.receive()
            try:
                opened = self._verifier.open(raw)
                frame = decode_payload(opened.type, opened.id, opened.ts, opened.payload())
            except UnknownFrameType:
                continue
            except SignatureError as error:
                self._read_unverified_error(raw)
                hint = "check the clocks" if isinstance(error, ClockSkewError) else "check hmac_secret"
                raise TransportClosed(f"a frame of the brain cannot be verified: {error}; {hint}", code=4403) from None
            except FrameError as error:
                log_once("connection.frame", f"a frame of the brain is not valid and was ignored: {error}")
                continue
            self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        if isinstance(frame, EventBatchAck):
            services = self._services
            services.window.acknowledged(frame.acked_id, frame.acked_through, frame.credit)
            services.vitals.last_ack = time.time()
            services.on_ack()
            services.mailbox.ready.set()
        elif isinstance(frame, CommandFrame):
            self._services.dispatcher.handle(frame)
        elif isinstance(frame, ErrorFrame):
            self._note_error(frame)

    def _note_error(self, frame: ErrorFrame) -> None:
        self.last_error = f"{frame.code}: {frame.message}"[:500]
        if not frame.fatal:
            logger.warning("[z4j] the brain reports %s", self.last_error)

    def _read_unverified_error(self, raw: bytes) -> None:
        # With a wrong clock or key even the brain's explanation fails to verify. Its text is only shown.
        try:
            frame = decode(parse_json(raw))
        except FrameError:
            return
        if isinstance(frame, ErrorFrame):
            self._note_error(frame)

    # -- agent to brain ---------------------------------------------------------------------------------------------

    async def _send_all(self) -> NoReturn:
        mailbox, window = self._services.mailbox, self._services.window
        mailbox.restore(time.monotonic())
        while True:
            mailbox.ready.clear()
            while mailbox.frames:
                await self._send(mailbox.take(time.monotonic()))
            while (batch := window.next_batch(time.monotonic())) is not None:
                await self._send_batch(batch)
                if mailbox.frames:
                    break
            if not mailbox.frames:
                # Not wait_for: before Python 3.12 it swallows a cancellation that arrives together with the signal,
                # and this connection would never end.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_OVERDUE_CHECK):
                        await mailbox.ready.wait()

    async def _send(self, frame: Frame) -> None:
        # Sealing numbers the frames, so they must leave in the order in which they were sealed.
        async with self._sealing:
            await self._transport.send(self._signer.seal(frame))

    async def _send_batch(self, batch: Batch) -> None:
        identifier = uuid4().hex
        async with self._sealing:
            message = self._signer.seal_raw("event_batch", identifier, payload_of(batch.rows))
            # Noted before it is written: the acknowledgement may arrive before this task runs again.
            self._services.window.sent(identifier, batch, seq=self._signer.seq, now=time.monotonic())
            await self._transport.send(message)

    async def farewell(self) -> None:
        """Send a last heartbeat and status, so that the brain has the counters with which this process ends."""
        await self._send_heartbeat()
        await self._send(self._services.vitals.status(uuid4().hex))

    async def _send_heartbeat(self) -> None:
        vitals = self._services.vitals
        heartbeat = vitals.heartbeat(uuid4().hex, self._services.health.current())
        await self._send(heartbeat)
        vitals.told(heartbeat)

    async def _beat(self, interval: float) -> NoReturn:
        vitals, health = self._services.vitals, self._services.health
        while True:
            await self._send_heartbeat()
            await self._send(vitals.status(uuid4().hex))
            started = time.monotonic()
            fresh = not health.current()
            await health.refresh()
            if fresh and health.current():
                await self._send_heartbeat()
            await asyncio.sleep(max(0.05, interval - (time.monotonic() - started)))


async def _first_to_fail(*work: Awaitable[NoReturn]) -> NoReturn:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    raise AssertionError("the tasks of a connection end by raising only")
