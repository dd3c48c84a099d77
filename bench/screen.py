"""A person who watches the task list while a brain is under load."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from urllib.parse import quote

from websockets.asyncio.client import connect

from bench.load import Lane
from tests.brainprocess import EMAIL, PASSWORD, BrainProcess
from tests.webclient import WebClient
from tests.wire.peer import Peer


class Watch:
    """Measures how long it takes from the moment of an event until the page that was told to look again shows it."""

    def __init__(self, brain: BrainProcess, credential: dict[str, str]) -> None:
        self._brain = brain
        self._credential = credential
        self._client = WebClient(brain.url)
        self.times: list[float] = []

    async def run(self, seconds: float) -> Lane:
        """Send one event after the other and wait for each to appear, for so many seconds."""
        await asyncio.to_thread(self._client.sign_in, EMAIL, PASSWORD)
        address = f"{self._brain.url.replace('http', 'ws')}/ws/live/default"
        headers = {"Cookie": self._client.cookie, "Origin": self._brain.url}
        end = time.monotonic() + seconds
        async with (
            connect(address, additional_headers=headers) as hints,
            Peer(self._brain.ws_url, self._credential) as peer,
        ):
            await hints.recv()
            while time.monotonic() < end:
                await self._one(hints, peer)
        return Lane()

    async def _one(self, hints, peer: Peer) -> None:  # type: ignore[no-untyped-def]
        task_id, name = f"watched-{uuid.uuid4().hex}", "shop.watched"
        began = time.monotonic()
        event = {"id": uuid.uuid4().hex, "kind": "task.received", "engine": "celery", "task_id": task_id}
        event |= {"occurred_at": datetime.now(UTC).isoformat(), "data": {"task_name": name}}
        await peer.deliver([event])
        while True:
            await hints.recv()
            page = await asyncio.to_thread(self._client.get, f"/p/default/tasks/?name={quote(name)}")
            if task_id in page:
                self.times.append(time.monotonic() - began)
                return
