"""A live brain under fuzzing: no crash, no traceback, no 5xx, and a neighbour that delivers loses nothing."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from http.cookiejar import CookieJar
from random import Random
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

import pytest
import websockets
from z4j_core.frames import EventBatchAck, Hello, encode
from z4j_core.signing import canonical

from tests.brainprocess import EMAIL, PASSWORD, BrainProcess, running_brain
from tests.conftest import life
from tests.delivery.campaign import SEED, SOAK, chance
from tests.fuzz import hostile
from tests.fuzz.seeds import payloads
from tests.wire.peer import Peer
from tests.wire.record import SAMPLES
from tests.wire.test_hostile_frames import REFUSALS, Neighbour, complaints, outcome

#: On each of the databases.
SECONDS = 300 if SOAK else 13
#: Attempts of each kind a run must have made; on two quiet cores it makes about five times as many.
MINIMUM = {
    "event batches": 60 * SECONDS,
    "other frames": 5 * SECONDS,
    "unsigned": SECONDS,
    "broken": 2 * SECONDS,
    "requests": 3 * SECONDS,
}
BURST = 60
KINDS = ("heartbeat", "agent_status", "command_result", "command_ack", "registry_delta", "error")
#: The codes of :data:`REFUSALS`, and those of a WebSocket whose rules were broken.
CLOSES = REFUSALS | {1000, 1002, 1003, 1006, 4401, 4408}


@pytest.fixture(params=["sqlite", "postgresql"])
def brain(request):
    """A brain for this test alone; its log is looked through at the end."""
    url = (
        "" if request.param == "sqlite" else request.getfixturevalue("postgres").create(f"fuzz_{uuid.uuid4().hex[:8]}")
    )
    with running_brain(url) as process:
        yield process


class Assault:
    """Attacks one after the other; each returns what went wrong, or nothing."""

    def __init__(self, brain: BrainProcess, dice: Random) -> None:
        self.brain = brain
        self.dice = dice
        self.credential = brain.mint("hostile")
        self.cookie = log_in(brain)
        self.payloads = [*payloads(), *(canonical({"events": life("victim")}),) * 4]
        self.made: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def run(self, seconds: float) -> None:
        """Attack until the time is over."""
        ways: tuple[Callable[[], Awaitable[None]], ...] = (
            self.event_batches, self.other_frames, self.unsigned, self.broken, self.requests
        )  # fmt: skip
        stop = time.monotonic() + seconds
        while time.monotonic() < stop and len(self.wrong) < 5:
            for way in ways:
                await way()

    async def event_batches(self) -> None:
        """Bursts of batches with valid signatures: all are answered, and the connection lives on."""
        async with Peer(self.brain.ws_url, self.credential) as peer:
            for _ in range(8):
                waiting = set()
                for _ in range(BURST):
                    payload = hostile.mutated(self.dice, self.dice.choice(self.payloads))
                    waiting.add(identifier := uuid.uuid4().hex)
                    await peer.socket.send(peer.signer.seal_raw("event_batch", identifier, payload))
                try:
                    await asyncio.wait_for(self._acknowledged(peer, waiting), 30)
                except websockets.ConnectionClosed as closed:
                    self._closed(closed, payload)
                    return

    async def _acknowledged(self, peer: Peer, waiting: set[str]) -> None:
        while waiting:
            ack = await peer.receive()
            if isinstance(ack, EventBatchAck):
                waiting.discard(ack.acked_id)
                self.made["event batches"] += 1

    async def other_frames(self) -> None:
        """Frames with valid signatures: each costs the connection at the most."""
        peer = None
        for _ in range(25):
            if peer is None:
                peer = await Peer(self.brain.ws_url, self.credential).__aenter__()
            kind = self.dice.choice(KINDS)
            own = [canonical(frame.payload()) for frame in SAMPLES.values() if frame.type == kind]
            payload = hostile.mutated(self.dice, self.dice.choice(own), most=self.dice.choice((1, 1, 4)))
            await peer.socket.send(peer.signer.seal_raw(kind, str(uuid.uuid4()), payload))
            code = await outcome(peer)
            self.made["other frames"] += 1
            self.ends[f"frame {code or 'taken'}"] += 1
            if code:
                if code not in REFUSALS:
                    self.wrong.append(f"{kind} {payload[:300]!r} was closed with {code}")
                peer = None
        if peer is not None:
            await peer.socket.close()

    async def unsigned(self) -> None:
        """What is not signed, before ``hello`` and after it."""
        for _ in range(8):
            peer = Peer(self.brain.ws_url, self.credential)
            await peer.open()
            hello = canonical(encode(Hello(id="h", worker_id=uuid.uuid4().hex)))
            if self.dice.random() < 0.5:
                await peer.socket.send(hello)
                await peer.socket.recv()
                data: bytes | str = hostile.mutated(self.dice, self.dice.choice([hello, *self.payloads]))
            else:
                data = hostile.mutated(self.dice, hello)
            if self.dice.random() < 0.3:
                data = data.decode("utf-8", "replace")
            self.made["unsigned"] += 1
            try:
                await peer.socket.send(data)
                answer = json.loads(await asyncio.wait_for(peer.socket.recv(), 30))
                self.ends[f"unsigned {answer['type']}"] += 1
                await peer.socket.close()
            except websockets.ConnectionClosed as closed:
                self._closed(closed, data)

    def _closed(self, closed: websockets.ConnectionClosed, data: bytes | str) -> None:
        code = closed.rcvd.code if closed.rcvd else 1006
        self.ends[f"closed {code}"] += 1
        if code not in CLOSES:
            self.wrong.append(f"{data[:300]!r} was closed with {code}")

    async def broken(self) -> None:
        """Bytes that are no WebSocket."""
        for _ in range(10):
            fault = await asyncio.to_thread(
                hostile.broken_websocket, self.dice, self.brain.ws_url, self.credential["token"]
            )
            self.made["broken"] += 1
            if fault:
                self.wrong.append(fault)

    async def requests(self) -> None:
        """Requests of the dashboard and beside it, by the administrator."""
        for _ in range(15):
            sent = hostile.request(self.dice, f"127.0.0.1:{self.brain.port}", self.cookie)
            try:
                answer = await asyncio.to_thread(hostile.answered, self.brain.port, sent)
            except TimeoutError:
                answer = b"no answer"
            status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
            self.made["requests"] += 1
            self.ends[f"http {status[1].decode() if status else 'closed'}"] += 1
            if answer == b"no answer" or (status and status[1] >= b"500"):
                self.wrong.append(f"{sent.data[:600]!r} was answered with {answer[:200]!r}")


def log_in(brain: BrainProcess) -> str:
    """Log the administrator in and return the cookies."""
    jar = CookieJar()
    opener = build_opener(HTTPCookieProcessor(jar))
    with opener.open(f"{brain.url}/login/", timeout=10) as answer:
        token = answer.read().decode().split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    form = urlencode({"csrfmiddlewaretoken": token, "username": EMAIL, "password": PASSWORD}).encode()
    opener.open(f"{brain.url}/login/", form, timeout=10).close()
    assert len(jar) == 2
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


@pytest.mark.slow
async def test_whatever_is_thrown_at_a_brain_harms_nobody_else(brain, request, record_property):
    assault = await asyncio.to_thread(Assault, brain, chance("live fuzz"))
    async with Neighbour(brain) as neighbour:
        await assault.run(SECONDS)
    made = ", ".join(f"{assault.made[kind]:,} {kind} (of at least {least:,})" for kind, least in MINIMUM.items())
    ends = ", ".join(f"{end}: {count:,}" for end, count in sorted(assault.ends.items()))
    line = (
        f"brain on {request.node.callspec.id} fuzzed: seed {SEED}, {SECONDS} s, {made}; "
        f"neighbour delivered {neighbour.accepted:,}; {ends}"
    )
    print(line)
    record_property("outcome", line)
    assert assault.wrong == []
    assert complaints(brain) == []
    assert brain.process is not None and brain.process.poll() is None
    assert urlopen(f"{brain.url}/healthz", timeout=10).status == 200
    assert {kind for kind, least in MINIMUM.items() if assault.made[kind] < least} == set(), line
