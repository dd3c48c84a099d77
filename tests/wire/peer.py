"""A bare peer of the brain for tests and benches: says hello, signs, sends what it is told, reads what comes."""

from __future__ import annotations

import json
import uuid
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect
from z4j_core.frames import EventBatch, EventBatchAck, Frame, Hello, decode, encode
from z4j_core.signing import Binding, Signer, Verifier, canonical, secret_bytes


class Peer:
    """One connection. Use as an async context manager; the handshake is done on entry."""

    def __init__(self, url: str, credential: dict[str, str], **hello: Any) -> None:
        self.url = url
        self.credential = credential
        self.hello = {"worker_id": f"test-{uuid.uuid4().hex[:8]}", "engines": ("celery",), **hello}
        self.socket: ClientConnection
        self.signer: Signer
        self.verifier: Verifier

    async def open(self) -> ClientConnection:
        """Open the socket only."""
        headers = {"Authorization": f"Bearer {self.credential['token']}"}
        self.socket = await connect(self.url, additional_headers=headers, compression=None, max_size=2**22)
        return self.socket

    async def __aenter__(self) -> Peer:
        await self.open()
        await self.socket.send(canonical(encode(Hello(id=uuid.uuid4().hex, **self.hello))))
        self.adopt(await self.socket.recv())
        return self

    def adopt(self, answer: bytes | str) -> None:
        """Take over the identity that the answer to ``hello`` gives."""
        ack = decode(json.loads(answer))
        binding = Binding(ack.agent_id, ack.project_id, ack.session_id)
        secret = secret_bytes(self.credential["hmac_secret"])
        self.signer, self.verifier = Signer(secret, binding), Verifier(secret, binding)

    async def __aexit__(self, *details: object) -> None:
        await self.socket.close()

    async def send(self, frame: Frame) -> None:
        """Sign and send."""
        await self.socket.send(self.signer.seal(frame))

    async def receive(self) -> Frame:
        """Verify and return the next frame."""
        opened = self.verifier.open(await self.socket.recv())
        return decode({"v": 2, "type": opened.type, "id": opened.id, "ts": opened.ts, "payload": opened.payload()})

    async def deliver(self, events: list[dict[str, Any]]) -> EventBatchAck:
        """Send one batch and wait for its acknowledgement."""
        batch = EventBatch(id=uuid.uuid4().hex, events=tuple(events))
        await self.send(batch)
        while True:
            frame = await self.receive()
            if isinstance(frame, EventBatchAck) and frame.acked_id == batch.id:
                return frame

    async def closed(self) -> int:
        """Read until the brain closes; return its close code."""
        try:
            while True:
                await self.socket.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
