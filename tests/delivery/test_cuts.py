"""The connection is cut after every k-th byte of a handshake and three batches, both ways, on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import deque
from typing import Any

import pytest
from z4j_core.frames import EventBatch, EventBatchAck
from z4j_core.signing import canonical

from tests.brainprocess import BrainProcess, running_brain
from tests.delivery.campaign import CUTS, chance
from tests.delivery.checker import books_of, problems
from tests.delivery.journal import Journal, Work, read
from tests.delivery.producer import LOST
from tests.delivery.proxy import FaultProxy, cut_after, intact
from tests.wire.peer import Peer

BATCHES, EVENTS, SIZE = 3, 3, 450
#: Cuts under way at a time.
LANES = 4
Batch = tuple[dict, ...]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def brain(request):
    """One brain a database."""
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    with running_brain(server.create(f"cuts{uuid.uuid4().hex[:8]}") if server else "") as started:
        yield started


def padded(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event at a fixed length, so that every conversation has the same number of bytes."""
    return event | {"data": event["data"] | {"padding": "x" * (SIZE - len(canonical(event)))}}


class Sweep:
    """Conversations of three batches, each cut at one byte and then repeated without a cut."""

    def __init__(self, brain: BrainProcess, journal: Journal, dice: random.Random) -> None:
        self.acknowledged: set[str] = set()
        self.cut = 0
        self._port = brain.port
        self._credential = brain.mint("light")
        self._journal = journal
        self._work = Work(dice, open_lives=6)

    def batches(self) -> list[Batch]:
        """Produce the content of one conversation."""
        made = [tuple(map(padded, self._work.events(EVENTS, time.time()))) for _ in range(BATCHES)]
        for batch in made:
            self._journal.produced(batch)
        return made

    async def converse(self, url: str, worker_id: str, batches: list[Batch]) -> list[Batch]:
        """Shake hands, send the batches, wait for their acknowledgements; return what was not acknowledged."""
        peer = Peer(url, self._credential, worker_id=worker_id)
        waiting: dict[str, Batch] = {}
        left = deque(batches)
        try:
            async with asyncio.timeout(10):
                with contextlib.suppress(*LOST):
                    await peer.__aenter__()
                    while left:
                        frame = EventBatch(id=uuid.uuid4().hex, events=left[0])
                        waiting[frame.id] = left.popleft()
                        await peer.send(frame)
                    while waiting:
                        answer = await peer.receive()
                        if isinstance(answer, EventBatchAck):
                            done = waiting.pop(answer.acked_id)
                            self.acknowledged.update(event["id"] for event in done)
        finally:
            if hasattr(peer, "socket"):
                peer.socket.transport.abort()
        return [*waiting.values(), *left]

    async def measure(self) -> dict[str, int]:
        """Return how many bytes an undisturbed conversation has in each direction."""
        async with FaultProxy(self._port) as proxy:
            assert await self.converse(proxy.ws_url, "lane-0", self.batches()) == []
            return dict(proxy.passed)

    async def run(self, cuts: deque[tuple[str, int]], lane: str) -> None:
        """Work through the cuts: one conversation with, and what is left in one without."""
        async with FaultProxy(self._port) as proxy:
            while cuts:
                direction, count = cuts.popleft()
                fault = cut_after(count)
                proxy.up, proxy.down = (fault, intact) if direction == "up" else (intact, fault)
                left = await self.converse(proxy.ws_url, lane, self.batches())
                proxy.up = proxy.down = intact
                while left:
                    left = await self.converse(proxy.ws_url, lane, left)
            self.cut += proxy.struck


def positions(length: int, count: int | None, dice: random.Random) -> list[int]:
    """Return the bytes to cut after: every one, or every k-th from a random one on."""
    step = 1 if count is None else length // count
    return list(range(dice.randrange(step), length, step))


@pytest.mark.slow
async def test_a_cut_after_any_byte_loses_and_doubles_nothing(brain, journals, request, outcome):
    name = request.node.callspec.params["brain"]
    dice = chance(f"cuts-{name}")
    journal = Journal(journals / "sweep")
    sweep = Sweep(brain, journal, dice)
    lengths = await sweep.measure()
    cuts = [(way, byte) for way, length in lengths.items() for byte in positions(length, CUTS, dice)]
    run = outcome(f"connection cut, {name}", sum(lengths.values()) if CUTS is None else 2 * CUTS)
    assert {way for way, _ in cuts} == {"up", "down"}
    queue = deque(cuts)
    await asyncio.gather(*(sweep.run(queue, f"lane-{number}") for number in range(LANES)))
    journal.close()
    books = books_of(brain)
    produced = read(journal.path)
    run.struck, run.produced, run.visible = sweep.cut, len(produced), len(books.keys)
    run.acknowledged = len(sweep.acknowledged)
    run.notes = " and ".join(f"{length} bytes {way}" for way, length in lengths.items())
    assert problems(books, produced, sweep.acknowledged) == []
    assert run.struck == len(cuts)
    assert run.acknowledged == run.produced
    run.close()
