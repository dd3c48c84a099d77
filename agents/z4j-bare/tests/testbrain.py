"""A small real brain for the agents' tests: a WebSocket server that speaks protocol 2 with z4j_core.

Runs in a thread of the test. What it received is in ``events``, ``heartbeats`` and so on; how it misbehaves is set by
attributes before or while it runs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from z4j_core.errors import SignatureError
from z4j_core.frames import (
    CommandAck,
    CommandFrame,
    CommandResultFrame,
    ErrorFrame,
    EventBatch,
    EventBatchAck,
    Frame,
    Hello,
    HelloAck,
    decode,
    decode_payload,
    encode,
    parse_json,
)
from z4j_core.signing import Binding, Signer, Verifier, canonical, derive_secret

TOKEN = "z4j_agent_0123456789abcdefghijklmnopqrstuvwxyz-_01"


def until(condition: Callable[[], Any], seconds: float = 15.0, what: str = "") -> Any:
    """Return the first true value of ``condition``; fail when there is none within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.01)


@dataclasses.dataclass
class Session:
    """One agent's connection."""

    connection: ServerConnection
    hello: Hello
    signer: Signer
    authorization: str = ""
    frames: list[Frame] = dataclasses.field(default_factory=list)
    batches: list[EventBatch] = dataclasses.field(default_factory=list)
    closed: bool = False


class Brain:
    """The server. Use as a context manager; ``url`` is what an agent's ``brain_url`` wants."""

    def __init__(self, *, token: str = TOKEN, max_frame: int = 1 << 20, heartbeat: int = 1) -> None:
        self.token = token
        self.secret = derive_secret(token)
        self.max_frame = max_frame
        self.heartbeat = heartbeat
        self.acknowledge = True
        self.acknowledge_through = False
        self.refuse: Callable[[EventBatch], int | None] = lambda batch: None
        self.error_before_close: str | None = None
        self.reject_with: int | None = None
        self.upgrade_status: int | None = None
        self.skew = 0.0
        self.sessions: list[Session] = []
        self.failures: list[str] = []
        self._loop: asyncio.AbstractEventLoop
        self._port = 0

    # -- what arrived -------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address for ``brain_url``."""
        return f"http://127.0.0.1:{self._port}"

    def frames(self, kind: str) -> list[Any]:
        """Return all frames of one type, of all sessions."""
        return [frame for session in list(self.sessions) for frame in list(session.frames) if frame.type == kind]

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events, each id once, in the order of arrival."""
        seen: dict[str, dict[str, Any]] = {}
        for frame in self.frames("event_batch"):
            for event in frame.events:
                seen.setdefault(event["id"], event)
        return list(seen.values())

    def of_task(self, task_id: str) -> list[dict[str, Any]]:
        """Return the events of one task."""
        return [event for event in self.events if event["task_id"] == task_id]

    def live(self) -> list[Session]:
        """Return the sessions that are open."""
        return [session for session in list(self.sessions) if not session.closed]

    def heartbeat_with(self, key: str) -> Any:
        """Return the newest heartbeat whose health has ``key``."""
        found = [beat for beat in self.frames("heartbeat") if key in beat.adapter_health]
        return found[-1] if found else None

    # -- what it does -------------------------------------------------------------------------------------------------

    def drop(self, code: int | None = None) -> None:
        """Close every connection, with ``code`` or without a close frame."""
        for session in self.live():
            if code is None:
                self._loop.call_soon_threadsafe(session.connection.transport.abort)
            else:
                asyncio.run_coroutine_threadsafe(session.connection.close(code, ""), self._loop).result(5)

    def send(self, frame: Frame, session: Session | None = None) -> None:
        """Sign and send one frame."""
        session = session or self.live()[-1]
        asyncio.run_coroutine_threadsafe(self._send(session, frame), self._loop).result(5)

    def command(
        self,
        action: str,
        *,
        identifier: str | None = None,
        seconds: float = 30,
        session: Session | None = None,
        timeout_seconds: int = 20,
        **parameters: Any,
    ) -> CommandResultFrame:
        """Send a command and return its result."""
        identifier = identifier or uuid4().hex
        before = len([f for f in self.frames("command_result") if f.id == identifier])
        target = {"type": "task", "id": f"{parameters.get('engine')}:{parameters.get('task_id')}"}
        frame = CommandFrame(
            id=identifier, action=action, target=target, parameters=parameters, timeout_seconds=timeout_seconds
        )
        self.send(frame, session)

        def result() -> Any:
            found = [frame for frame in self.frames("command_result") if frame.id == identifier]
            return found[-1] if len(found) > before else None

        answer: CommandResultFrame = until(result, seconds, f"result of {action}")
        assert any(isinstance(frame, CommandAck) and frame.id == identifier for frame in self.frames("command_ack"))
        return answer

    async def _send(self, session: Session, frame: Frame) -> None:
        await session.connection.send(session.signer.seal(frame))

    # -- the server ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Brain:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            options = {"max_size": None, "close_timeout": 1, "process_request": self._upgrade}
            async with serve(self._serve, "127.0.0.1", self._port, **options) as server:
                self._port = server.sockets[0].getsockname()[1]
                started.set()
                await self._stop.wait()

        asyncio.run(main())

    def _upgrade(self, connection: ServerConnection, _request: Any) -> Any:
        return None if self.upgrade_status is None else connection.respond(self.upgrade_status, "no")

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            await self._greet(connection)
        except ConnectionClosed:
            pass
        except Exception as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            await connection.close(1011, "")
        finally:
            for session in self.sessions:
                if session.connection is connection:
                    session.closed = True

    async def _greet(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        authorization = connection.request.headers.get("Authorization", "")
        assert connection.request.path == "/ws/agent", connection.request.path
        hello = decode(parse_json(await connection.recv()))
        assert isinstance(hello, Hello)
        if self.reject_with is not None:
            await connection.close(self.reject_with, "")
            return
        if authorization != f"Bearer {self.token}":
            await connection.close(4401, "")
            return
        binding = Binding(uuid4().hex, uuid4().hex, uuid4().hex)
        ack = HelloAck(
            id=uuid4().hex,
            brain_version="test",
            agent_id=binding.agent_id,
            project_id=binding.project_id,
            session_id=binding.session_id,
            heartbeat_interval_seconds=self.heartbeat,
            max_frame_size_bytes=self.max_frame,
        )
        session = Session(
            connection, hello, Signer(self.secret, binding, clock=lambda: time.time() + self.skew), authorization
        )
        verifier = Verifier(self.secret, binding, clock=lambda: time.time() + self.skew)
        await connection.send(canonical(encode(ack)))
        self.sessions.append(session)
        async for message in connection:
            if not await self._take(session, verifier, message if isinstance(message, bytes) else message.encode()):
                return

    async def _take(self, session: Session, verifier: Verifier, raw: bytes) -> bool:
        if len(raw) > self.max_frame:
            await session.connection.close(1009, "")
            return False
        try:
            opened = verifier.open(raw)
        except SignatureError as error:
            await self._send(session, ErrorFrame(id=uuid4().hex, code="signature", message=str(error), fatal=True))
            await session.connection.close(4403, "")
            return False
        frame = decode_payload(opened.type, opened.id, opened.ts, opened.payload())
        if isinstance(frame, EventBatch):
            code = self.refuse(frame)
            session.batches.append(frame)
            if code is not None:
                await session.connection.close(code, "")
                return False
            session.frames.append(frame)
            await self._acknowledge(session, frame, opened.seq)
        else:
            session.frames.append(frame)
        return True

    async def _acknowledge(self, session: Session, frame: EventBatch, seq: int) -> None:
        if not self.acknowledge:
            return
        count = len(frame.events)
        through = seq if self.acknowledge_through else None
        if self.acknowledge_through and len(session.batches) % 3:
            return
        ack = EventBatchAck(id=uuid4().hex, acked_id=frame.id, received=count, accepted=count, acked_through=through)
        await self._send(session, ack)
