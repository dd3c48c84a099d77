"""One agent connection: receive, verify, route, send. Nothing here touches the database."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from django.db import DatabaseError
from z4j_core import limits
from z4j_core.errors import ClockSkewError, FrameError, SignatureError
from z4j_core.frames import (
    AgentStatus,
    CommandAck,
    CommandResultFrame,
    ErrorFrame,
    EventBatchAck,
    Frame,
    Heartbeat,
    decode_payload,
    encode,
)
from z4j_core.signing import Opened, canonical

from brain import agents, commands, live
from brain.errors import HandshakeRefused
from brain.gateway import content, handshake
from brain.gateway.handshake import Session
from brain.gateway.hub import hub
from brain.ingest import Verdict

logger = logging.getLogger("z4j.gateway")

#: Bytes of unacknowledged batches after which a connection is not read from until half of them are written.
MAX_OUTSTANDING = limits.MIB
#: The same for all connections together, as long as that leaves each of them the least below.
MAX_BACKLOG = 64 * limits.MIB
MIN_ALLOWANCE = 32 * limits.KIB
#: What keeping a batch costs beside its bytes: its futures and bookkeeping.
BATCH_COST = 2 * limits.KIB
#: Seconds a token may take to be looked up; a stranger is not kept for longer.
AUTHENTICATION_TIMEOUT = 5.0
#: Domain calls of a connection (heartbeats, results) that may wait for the writer before it is not read from.
MAX_CALLS = 64


Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Flow(Protocol):
    """Stops and resumes reading from a socket; the server puts one in the scope of each connection."""

    def pause(self) -> None:
        """Read no more."""

    def resume(self) -> None:
        """Read on."""


@dataclasses.dataclass(slots=True)
class _Pending:
    """A batch on its way to the database."""

    id: str
    seq: int
    size: int
    verdict: asyncio.Future[Verdict]


class AgentConsumer(AsyncConsumer):
    """The consumer of ``/ws/agent``; one instance a connection."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.heard_at = time.monotonic()
        self._credential: agents.Credential | None = None
        self._closed = False
        self._outstanding = 0
        self._calls = 0
        self._paused = False
        self._noted: asyncio.Future[bool] | None = None
        self._has_seat = False
        self._deadline: asyncio.TimerHandle | None = None
        self._claiming: asyncio.Future[None] | None = None
        self._pending: asyncio.Queue[_Pending] = asyncio.Queue()
        self._settled = asyncio.Event()
        self._settled.set()
        self._acks: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self._routes: dict[str, Callable[[Session, Opened, Frame], None]] = {
            "heartbeat": self._on_heartbeat,
            "agent_status": self._on_heartbeat,
            "command_ack": self._on_command_ack,
            "command_result": self._on_command_result,
            "registry_delta": self._on_nothing,
            "error": self._on_error,
        }

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve a connection's frames. Channels' own makes a new task for each."""
        self.scope, self.base_send = scope, send
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Route a message to its method. Unlike Channels' own, it visits no database thread for each frame."""
        handler = getattr(self, message["type"].replace(".", "_"), None)
        if handler is None:
            return
        try:
            await handler(message)
        except StopConsumer:
            raise
        except Exception as error:
            # The outermost frame loop: whatever a peer sent, it costs that peer's connection only.
            await self.fail(error)
            if message["type"] == "websocket.disconnect":
                raise StopConsumer from error

    # Connection

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        """Authenticate; refusals come as close codes after the upgrade. Nothing is read from a stranger meanwhile."""
        try:
            token = handshake.bearer(self.scope["headers"])
        except HandshakeRefused as refusal:
            await self.send({"type": "websocket.accept"})
            await self.refuse(refusal.close_code, str(refusal))
            return
        if token is None:
            logger.warning("%s refused: it carries an Origin or a Cookie, so it is a browser", self._peer())
            await self.send({"type": "websocket.close"})
            return
        await self.send({"type": "websocket.accept"})
        hub.joined(self)
        if hub.draining:
            await self.close(handshake.RESTARTING)
            return
        self._stop_reading()
        try:
            self._credential = await self._authenticate(token)
            self._deadline = asyncio.get_running_loop().call_later(limits.HANDSHAKE_TIMEOUT, self._no_hello)
        except HandshakeRefused as refusal:
            await self.refuse(refusal.close_code, str(refusal))
        finally:
            self._read_on()

    async def _authenticate(self, token: str) -> agents.Credential:
        try:
            async with asyncio.timeout(AUTHENTICATION_TIMEOUT):
                credential = handshake.admit(await hub.gatekeeper.authenticate(token))
        except (TimeoutError, DatabaseError) as error:
            reason = f"the token cannot be looked up now: {error or 'the database is slow'}"
            raise HandshakeRefused(reason, close_code=handshake.TOO_MANY) from error
        self._has_seat = hub.admission.take_seat(credential.agent_id)
        if not self._has_seat:
            reason = f"{hub.admission.caps.per_agent} processes use the credential of {credential.agent_name}"
            raise HandshakeRefused(reason, close_code=handshake.TOO_MANY)
        return credential

    def _free_seat(self, credential: agents.Credential) -> None:
        if self._has_seat:
            self._has_seat = False
            hub.admission.free_seat(credential.agent_id)

    def _no_hello(self) -> None:
        reason = f"no hello within {limits.HANDSHAKE_TIMEOUT:.0f} s"
        self._closing = asyncio.ensure_future(self.refuse(handshake.IDLE, reason))

    async def websocket_receive(self, message: dict[str, Any]) -> None:
        """Take one frame."""
        if self._closed or hub.draining or self._credential is None:
            return
        self.heard_at = time.monotonic()
        raw = message.get("bytes") or (message.get("text") or "").encode("utf-8", "surrogatepass")
        if self.session is None:
            await self._hello(raw)
            return
        try:
            opened = self.session.verifier.open(raw)
            await self._route(self.session, opened)
        except ClockSkewError as error:
            await self._send(ErrorFrame(id=_new_id(), code="clock_skew", message=str(error), fatal=True))
            await self.refuse(error.close_code, str(error))
        except SignatureError as error:
            await self.refuse(error.close_code, str(error))
        except FrameError as error:
            await self.refuse(handshake.BAD_FRAME, str(error))

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """Forget the connection; what it sent is still written, and sent again if the ack did not arrive."""
        self._closed = True
        hub.left(self)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._credential is not None:
            self._free_seat(self._credential)
        if self._acks is not None:
            self._acks.cancel()
        if self.session is not None:
            session = self.session
            if self._listening is not None:
                self._listening.cancel()
            logger.info("%s disconnected (%s)", self._who(), message.get("code"))
            hub.presence.gone(session.credential.project_id, session.session_id)
        raise StopConsumer

    async def close(self, code: int) -> None:
        """Close the connection with a code of the protocol."""
        if not self._closed:
            self._closed = True
            await self.send({"type": "websocket.close", "code": code})

    async def refuse(self, code: int, reason: str) -> None:
        """Close the connection and say why in one log line."""
        if not self._closed:
            who = self._credential.agent_id if self._credential is not None else None
            if (note := hub.throttle((code, who))) is not None:
                logger.warning("%s closed with %d: %s%s", self._who(), code, reason, note)
            await self.close(code)

    async def fail(self, error: BaseException) -> None:
        """Close after a fault of ours (4012: come again), leaving one traceback in the log."""
        logger.error("%s closed: %s", self._who(), error, exc_info=error)
        await self.close(handshake.RESTARTING)

    async def settle(self) -> None:
        """Wait until everything received is committed and acknowledged."""
        await self._settled.wait()

    # Handshake

    async def _hello(self, raw: bytes) -> None:
        assert self._credential is not None
        if self._deadline is not None:
            self._deadline.cancel()
        try:
            hello = handshake.read_hello(raw)
        except HandshakeRefused as refusal:
            await self._send_unsigned(ErrorFrame(id=_new_id(), code="handshake", message=str(refusal), fatal=True))
            await self.refuse(refusal.close_code, str(refusal))
            return
        now = datetime.now(UTC)
        session, ack = handshake.open_session(self._credential, hello, uuid.uuid4().hex)
        skew = handshake.skew_ms(hello.ts, now)
        if not hello.worker_id:
            live.replace_agent(self._credential.agent_id, "", session.session_id)
        self._stop_reading()
        try:
            arrival = agents.Arrival(self._credential, hello, session.session_id, skew)
            still_good = await hub.presence.connected(arrival)
        except DatabaseError as error:
            await self.refuse(handshake.RESTARTING, f"the connection cannot be noted: {error}")
            return
        finally:
            self._read_on()
        if not still_good:
            await self.agent_revoked({})
            return
        self.session = session
        group = live.agent_group(self._credential.agent_id)
        self._listening = asyncio.create_task(live.listen(group, self.dispatch))
        self._acks = asyncio.create_task(self._send_acks())
        self._acks.add_done_callback(self._acks_ended)
        await self._send_unsigned(dataclasses.replace(ack, ts=now.isoformat()))
        logger.info("%s connected: %s %s", self._who(), hello.framework, ", ".join(hello.engines) or "no engine")
        await self.agent_wake({})

    # Frames in

    async def _route(self, session: Session, opened: Opened) -> None:
        if opened.type == "event_batch":
            self._take_batch(session, opened)
            return
        route = self._routes.get(opened.type)
        if route is None:
            raise FrameError(f"an agent may not send {opened.type}")
        payload = content.parse(opened.payload_json)
        route(session, opened, decode_payload(opened.type, opened.id, opened.ts, payload))

    def _take_batch(self, session: Session, opened: Opened) -> None:
        credential = session.credential
        verdict = hub.writer.submit(session.source, credential.retention_days, opened.payload_json)
        size = len(opened.payload_json) + BATCH_COST
        self._outstanding += size
        hub.busy.add(self)
        self._settled.clear()
        self._pending.put_nowait(_Pending(opened.id, opened.seq, size, verdict))
        if self._outstanding > self._allowance:
            self._stop_reading()

    def _on_heartbeat(self, session: Session, opened: Opened, frame: Frame) -> None:
        assert isinstance(frame, Heartbeat | AgentStatus)
        noted = hub.presence.heard(session.credential, session.session_id, frame)
        if noted is not self._noted:
            self._noted = noted
            noted.add_done_callback(self._close_if_revoked)

    def _close_if_revoked(self, heard: asyncio.Future[bool]) -> None:
        """Cover a revocation whose message was lost, or came from a process without a channel layer to us."""
        if not heard.cancelled() and heard.exception() is None and not heard.result():
            self._closing = asyncio.ensure_future(self.agent_revoked({}))

    def _on_command_ack(self, session: Session, opened: Opened, frame: Frame) -> None:
        assert isinstance(frame, CommandAck)
        self._background(commands.acknowledge, session.credential.agent_id, frame.id)

    def _on_command_result(self, session: Session, opened: Opened, frame: Frame) -> None:
        assert isinstance(frame, CommandResultFrame)
        credential = session.credential
        self._background(commands.complete, credential.agent_id, credential.agent_name, frame)

    def _on_error(self, session: Session, opened: Opened, frame: Frame) -> None:
        assert isinstance(frame, ErrorFrame)
        if (note := hub.throttle(("error", session.credential.agent_id))) is not None:
            logger.warning("%s reports %s: %s%s", self._who(), frame.code, frame.message[:500], note)

    def _on_nothing(self, session: Session, opened: Opened, frame: Frame) -> None:
        """Accept a frame whose content the brain does not use yet."""

    def _background(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run a domain call on the writer thread; nobody waits for it, so a failure is logged here."""
        future = hub.writer.call(function, *args)
        self._calls += 1
        if self._calls > MAX_CALLS:
            self._stop_reading()
        future.add_done_callback(self._called)
        return future

    def _called(self, future: asyncio.Future[Any]) -> None:
        self._calls -= 1
        self._read_on()
        if not future.cancelled() and (error := future.exception()) is not None:
            logger.error("%s: %s", self._who(), error, exc_info=error)

    @property
    def is_paused(self) -> bool:
        """Whether it is not read from now because the brain is behind."""
        return self._paused

    @property
    def _allowance(self) -> int:
        """Bytes of its batches that may wait: the fewer, the more connections have some waiting."""
        return min(MAX_OUTSTANDING, max(MIN_ALLOWANCE, MAX_BACKLOG // max(1, len(hub.busy))))

    def _stop_reading(self) -> None:
        flow: Flow | None = self.scope.get("z4j.flow")
        if flow is not None and not self._paused:
            self._paused = True
            flow.pause()

    def _read_on(self) -> None:
        """Read again when what was received has come down to half of what may wait."""
        if self._paused and self._outstanding < self._allowance // 2 and self._calls < MAX_CALLS // 2:
            self._paused = False
            self.scope["z4j.flow"].resume()

    # Frames out

    async def _send_acks(self) -> None:
        """Acknowledge batches in order, after their commit; several with one ack where the agent allows it."""
        assert self.session is not None
        while not self._closed:
            ready = [await self._pending.get()]
            total = await ready[0].verdict
            while self.session.batches and not self._pending.empty() and len(ready) < limits.MAX_IN_FLIGHT:
                following = self._pending.get_nowait()
                ready.append(following)
                total += await following.verdict
            await self._acknowledge(ready, total)

    def _acks_ended(self, acks: asyncio.Task[None]) -> None:
        """Close a connection whose batches could not be written: unacknowledged, they come again on the next."""
        self._settled.set()
        if acks.cancelled() or (error := acks.exception()) is None:
            return
        self._closing = asyncio.ensure_future(self.fail(error))

    async def _acknowledge(self, ready: list[_Pending], total: Verdict) -> None:
        assert self.session is not None
        newest = ready[-1]
        self._outstanding -= sum(item.size for item in ready)
        if not self._outstanding:
            hub.busy.discard(self)
        ack = EventBatchAck(
            id=_new_id(),
            acked_id=newest.id,
            received=total.received,
            accepted=total.accepted,
            rejected=total.rejected,
            acked_through=newest.seq if self.session.batches else None,
            credit=max(0, self._allowance - self._outstanding) if self.session.batches else None,
        )
        await self._send(ack)
        self._read_on()
        if self._pending.empty():
            self._settled.set()

    async def _send(self, frame: Frame) -> None:
        if self.session is not None and not self._closed:
            await self.send({"type": "websocket.send", "bytes": self.session.signer.seal(frame)})

    async def _send_unsigned(self, frame: Frame) -> None:
        if not self._closed:
            await self.send({"type": "websocket.send", "bytes": canonical(encode(frame))})

    # Messages of the channel layer

    async def agent_wake(self, message: dict[str, Any]) -> None:
        """Look for commands that wait for this agent, without holding up what it sends."""
        if self.session is not None and (self._claiming is None or self._claiming.done()):
            self._claiming = asyncio.ensure_future(self._claim(self.session))
            self._claiming.add_done_callback(self._log_claim)

    async def _claim(self, session: Session) -> None:
        if self._closed or hub.draining:
            return
        frames = await hub.writer.call(
            commands.claim, session.credential.agent_id, session.session_id, session.capabilities
        )
        for frame in frames:
            await self._send(frame)

    def _log_claim(self, claim: asyncio.Future[None]) -> None:
        if not claim.cancelled() and (error := claim.exception()) is not None:
            logger.error("%s: cannot claim commands: %s", self._who(), error, exc_info=error)

    async def agent_revoked(self, message: dict[str, Any]) -> None:
        """Close: the credential is void."""
        await self.refuse(handshake.REVOKED, "the credential was revoked")

    async def agent_replaced(self, message: dict[str, Any]) -> None:
        """Close when a newer connection of the same nameless identity has come."""
        session = self.session
        if session and message["session_id"] != session.session_id and not session.hello.worker_id:
            await self.refuse(handshake.REPLACED, "a newer connection of the same agent has come")

    # Words for the log

    def _peer(self) -> str:
        client = self.scope.get("client")
        return f"{client[0]}:{client[1]}" if client else "unknown address"

    def _who(self) -> str:
        if self._credential is None:
            return f"agent at {self._peer()}"
        return f"agent {self._credential.project_slug}/{self._credential.agent_name} at {self._peer()}"


def _new_id() -> str:
    return uuid.uuid4().hex
