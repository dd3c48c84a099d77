"""A light agent: a bare peer that keeps what was not acknowledged, comes again and sends it again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from websockets.exceptions import WebSocketException
from z4j_core.errors import Z4JError
from z4j_core.frames import EventBatch, EventBatchAck

from tests.delivery.journal import Journal, Work
from tests.wire.peer import Peer

Batch = tuple[dict, ...]
LOST = (OSError, TimeoutError, WebSocketException, Z4JError)


@dataclasses.dataclass(slots=True)
class Pace:
    """How a producer works: events in a batch (drawn between both), batches in flight, seconds between two batches,
    and how long it waits for an answer before it connects anew."""

    batch: tuple[int, int] = (5, 40)
    window: int = 8
    pause: float = 0.03
    patience: float = 5.0


class Producer:
    """Produces, journals, sends; ``acknowledged`` holds the journal keys the brain has acknowledged."""

    def __init__(
        self, url: str, credential: dict[str, str], journal: Path, chance: random.Random, work: Work, pace: Pace
    ) -> None:
        self.acknowledged: set[str] = set()
        self.connections = 0
        self.finishing = False
        self._url = url
        self._credential = credential
        self._journal = Journal(journal)
        self._chance = chance
        self._pace = pace
        self._work = work
        self._worker_id = f"light-{uuid.uuid4().hex[:8]}"
        # Both kinds of agents: those with an ack a batch, and those one ack may stand for several.
        self._features = ("z4j_batch_v1",) if chance.random() < 0.5 else ()
        self._complete = False
        self._pending: dict[str, Batch] = {}
        self._sent: dict[str, tuple[int, str]] = {}

    @property
    def waiting(self) -> int:
        """How many batches are not acknowledged."""
        return len(self._pending)

    async def run(self) -> None:
        """Produce until told to finish and everything is acknowledged; connect again whenever the connection ends."""
        try:
            while not self._done():
                with contextlib.suppress(*LOST):
                    await self._connection()
                await asyncio.sleep(self._chance.uniform(0.02, 0.2))
        finally:
            self._journal.close()

    def _done(self) -> bool:
        return self._complete and not self._pending

    async def _connection(self) -> None:
        peer = Peer(self._url, self._credential, worker_id=self._worker_id, runtime_features=self._features)
        try:
            async with asyncio.timeout(self._pace.patience):
                await peer.__aenter__()
            self.connections += 1
            self._sent.clear()
            await _first(self._write(peer), self._read(peer))
        finally:
            # A peer that does not answer a close must not hold the producer.
            if hasattr(peer, "socket"):
                peer.socket.transport.abort()

    async def _write(self, peer: Peer) -> None:
        for key, batch in list(self._pending.items()):
            await self._send(peer, key, batch)
        while not self._complete:
            if len(self._pending) < self._pace.window:
                await self._send(peer, *self._produce())
            await asyncio.sleep(self._pace.pause)
        while self._pending:
            await asyncio.sleep(0.01)

    def _produce(self) -> tuple[str, Batch]:
        now = time.time()
        if self.finishing:
            self._complete = True
            events = self._work.events(1, now) + self._work.rest(now)
        else:
            events = self._work.events(self._chance.randint(*self._pace.batch), now)
        self._journal.produced(events)
        key = uuid.uuid4().hex
        self._pending[key] = tuple(events)
        return key, self._pending[key]

    async def _send(self, peer: Peer, key: str, batch: Batch) -> None:
        frame = EventBatch(id=uuid.uuid4().hex, events=batch)
        self._sent[frame.id] = (peer.signer.seq + 1, key)
        await peer.send(frame)

    async def _read(self, peer: Peer) -> None:
        while True:
            try:
                frame = await asyncio.wait_for(peer.receive(), self._pace.patience)
            except TimeoutError:
                if self._pending:
                    raise
                continue
            if isinstance(frame, EventBatchAck):
                self._acknowledge(frame)

    def _acknowledge(self, frame: EventBatchAck) -> None:
        through = frame.acked_through or 0
        done = [one for one, (seq, _) in self._sent.items() if one == frame.acked_id or seq <= through]
        for one in done:
            _, key = self._sent.pop(one)
            self.acknowledged.update(event["id"] for event in self._pending.pop(key, ()))


async def _first(*work) -> None:  # type: ignore[no-untyped-def]
    """Run until the first ends or fails, end the others, raise what was raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Load:
    """Several producers at work; :meth:`finish` lets them send what is left."""

    def __init__(self, producers: Sequence[Producer]) -> None:
        self._producers = producers
        self._tasks = [asyncio.ensure_future(one.run()) for one in producers]

    @property
    def acknowledged(self) -> set[str]:
        """The journal keys acknowledged to any of them."""
        return set().union(*(one.acknowledged for one in self._producers))

    @property
    def connections(self) -> int:
        """How often they connected."""
        return sum(one.connections for one in self._producers)

    @property
    def waiting(self) -> int:
        """How many batches of theirs are not acknowledged."""
        return sum(one.waiting for one in self._producers)

    async def progress(self, seconds: float = 30.0) -> None:
        """Wait until every producer has had more acknowledged. Raises ``TimeoutError``."""
        before = [len(one.acknowledged) for one in self._producers]
        async with asyncio.timeout(seconds):
            while any(len(one.acknowledged) <= then for one, then in zip(self._producers, before, strict=True)):
                await asyncio.sleep(0.01)

    async def finish(self, seconds: float = 60.0) -> None:
        """Let them end what they began and wait until all of it is acknowledged."""
        for one in self._producers:
            one.finishing = True
        async with asyncio.timeout(seconds):
            await asyncio.gather(*self._tasks)

    def abandon(self) -> None:
        """Stop them as they are."""
        for task in self._tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def load(
    url: str,
    credential: dict[str, str],
    folder: Path,
    chance: random.Random,
    *,
    lanes: int = 4,
    pace: Pace | None = None,
) -> AsyncIterator[Load]:
    """Let producers work on one credential, with a journal each in ``folder``.

    They share their tasks: the events of one come over several connections at a time.
    """
    shared = Work(random.Random(chance.random()), open_lives=5 * lanes)
    producers = [
        Producer(
            url,
            credential,
            folder / f"light-{uuid.uuid4().hex[:8]}",
            random.Random(chance.random()),
            shared,
            pace or Pace(),
        )
        for _ in range(lanes)
    ]
    work = Load(producers)
    try:
        yield work
    finally:
        work.abandon()
