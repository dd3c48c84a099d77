"""The load of the benches: lives of tasks as signed batches, over real sockets, against any brain of protocol 2."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from z4j_core.frames import EventBatchAck
from z4j_core.signing import canonical

from tests.wire.peer import Peer

#: Batches in flight on one connection.
WINDOW = 16
NAMES = ("shop.orders.charge", "shop.mail.send_receipt", "shop.media.thumbnail", "shop.reports.build")
Stock = list[tuple[bytes, int]]


@dataclasses.dataclass
class Lane:
    """One connection's part of a run."""

    events: int = 0
    waits: list[float] = dataclasses.field(default_factory=list)


def life(number: int) -> list[dict[str, Any]]:
    """Return three events of one task, about 400 bytes each."""
    task_id, name = str(uuid.uuid4()), NAMES[number % len(NAMES)]
    now = datetime.now(UTC).isoformat()
    common = {"task_name": name, "queue": "default", "attempt": 0, "root_task_id": task_id}
    details = (
        ("received", {"args": [number, "x" * 60], "kwargs": {"retry": True}, "replayable": True, "worker": "w@host"}),
        ("started", {"worker": "w@host", "pid": 4711, "note": "x" * 80}),
        ("succeeded", {"worker": "w@host", "runtime_ms": 12.5, "result": "'" + "y" * 60 + "'"}),
    )
    return [
        {
            "id": str(uuid.uuid4()),
            "kind": f"task.{kind}",
            "engine": "celery",
            "task_id": task_id,
            "occurred_at": now,
            "data": {**common, **more},
        }
        for kind, more in details
    ]


def payloads(size: int, count: int) -> Stock:
    """Return ``count`` canonical batch payloads of ``size`` events, to be made before the clock runs."""
    made, stock = [], []
    for number in range(count * size // 3 + 1):
        stock += life(number)
        while len(stock) >= size:
            batch, stock = stock[:size], stock[size:]
            made.append((canonical({"events": batch}), size))
    return made[:count]


async def flood(url: str, credential: dict[str, str], stock: Stock, until: Callable[[], float]) -> Lane:
    """Keep :data:`WINDOW` batches in flight on one connection until the time is up or the stock is empty."""
    lane = Lane()
    async with Peer(url, credential) as peer:
        sent: deque[float] = deque()
        while True:
            while len(sent) < WINDOW and stock and time.monotonic() < until():
                payload, _ = stock.pop()
                sent.append(time.monotonic())
                await peer.socket.send(peer.signer.seal_raw("event_batch", uuid.uuid4().hex, payload))
            if not sent:
                return lane
            _count(lane, sent, await peer.receive())


async def steady(url: str, credential: dict[str, str], stock: Stock, every: float, seconds: float) -> Lane:
    """Send one batch ``every`` so many seconds, whatever is acknowledged; return when all of them are."""
    lane, sent = Lane(), deque[float]()
    async with Peer(url, credential) as peer:

        async def send() -> None:
            due = time.monotonic() + random.uniform(0, every)
            end = due + seconds
            while due < end:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                payload, _ = stock.pop()
                sent.append(time.monotonic())
                await peer.socket.send(peer.signer.seal_raw("event_batch", uuid.uuid4().hex, payload))
                due += every

        sending = asyncio.create_task(send())
        while not sending.done() or sent:
            try:
                frame = await asyncio.wait_for(peer.receive(), timeout=0.5)
            except TimeoutError:
                continue
            _count(lane, sent, frame)
        await sending
    return lane


def _count(lane: Lane, sent: deque[float], frame: object) -> None:
    if isinstance(frame, EventBatchAck):
        lane.waits.append(time.monotonic() - sent.popleft())
        lane.events += frame.accepted
