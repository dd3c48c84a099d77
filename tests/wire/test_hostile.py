"""Stalled, flooding and dawdling sockets against a live brain: bounded in time and memory, and no harm to others."""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
import time
import uuid
from contextlib import ExitStack, closing, contextmanager
from urllib.request import urlopen

import psutil
import pytest
import websockets
from z4j_core import limits
from z4j_core.frames import EventBatch, Heartbeat, Hello, encode
from z4j_core.signing import canonical

from tests.brainprocess import BrainProcess, eventually, running_brain
from tests.conftest import life
from tests.wire.peer import Peer
from tests.wire.raw import BINARY, CONTINUATION, PING, RawSocket, frame
from tests.wire.test_hostile_frames import Neighbour, complaints

ATTACKERS = 8
#: What one attacker may cost the brain, and what its memory may move by without any, in bytes.
COST, NOISE = 2 * limits.MIB, 12 * limits.MIB
HELLO = canonical(encode(Hello(id="h", worker_id="raw")))


@pytest.fixture(scope="module")
def brain():
    """A brain for the tests of this file."""
    with running_brain() as process:
        yield process


@pytest.fixture(scope="module")
def credential(brain: BrainProcess) -> dict[str, str]:
    """The attacker's credential."""
    return brain.mint("hostile")


@pytest.fixture
def closing_at_end():
    """A stack of what is to be closed after the test."""
    with ExitStack() as stack:
        yield stack


def memory(brain: BrainProcess) -> int:
    """Return what the brain holds in memory, in bytes."""
    assert brain.process is not None
    return psutil.Process(brain.process.pid).memory_info().rss


async def warm(brain: BrainProcess) -> int:
    """Let the brain import and allocate what it needs, then return its memory."""
    async with Neighbour(brain):
        await asyncio.sleep(2)
    return memory(brain)


def push(sock: socket.socket, data: bytes, total: int) -> int:
    """Send ``data`` again and again until ``total`` bytes are sent or the brain takes no more for two seconds."""
    sent = 0
    sock.settimeout(2)
    try:
        while sent < total:
            sent += sock.send(data)
    except OSError:
        pass
    return sent


def flood(brain: BrainProcess, token: str, data: bytes, total: int, *, hello: bool = True) -> tuple[int, RawSocket]:
    """Open a raw socket and push; return how much the brain or the kernel took, and the open socket."""
    raw = RawSocket(brain.ws_url)
    assert b" 101 " in raw.upgrade(token)
    if hello:
        raw.send(BINARY, HELLO)
        raw.receive()
    return push(raw.socket, data, total), raw


async def attack(brain: BrainProcess, token: str, data: bytes, *, hello: bool = True) -> int:
    """Flood from several sockets while a neighbour delivers; return by how much the brain's memory grew, in bytes."""
    before = await warm(brain)
    async with Neighbour(brain):
        done = await asyncio.gather(
            *(asyncio.to_thread(flood, brain, token, data, 40 * limits.MIB, hello=hello) for _ in range(ATTACKERS))
        )
        peak = memory(brain) - before
    for _, raw in done:
        raw.socket.close()
    return peak


@contextmanager
def stalled_database(brain: BrainProcess):
    """Keep the database locked, so that nothing of the brain's can be written."""
    with closing(sqlite3.connect(brain.home / "z4j.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("data", "hello"),
    [
        (frame(PING) * 5000, True),
        (frame(PING, b"x" * 125) * 500, True),
        (frame(CONTINUATION, fin=False) * 10_000, True),
        (frame(CONTINUATION, b"xy", fin=False) * 10_000, True),
        (frame(BINARY, b"{}") * 10_000, True),
        (frame(BINARY, b"{}") * 10_000, False),
        (frame(BINARY, b"x" * limits.MIB), False),
    ],
    ids=["pings", "long-pings", "empty-fragments", "fragments", "tiny-frames", "before-hello", "big-before-hello"],
)
async def test_a_flood_costs_little_and_harms_nobody(brain, credential, data, hello):
    start = frame(BINARY, b"x", fin=False) if data[0] & 15 == CONTINUATION else b""
    grown = await attack(brain, credential["token"], start + data, hello=hello)
    assert grown <= ATTACKERS * COST + NOISE, f"{grown / limits.MIB:.1f} MiB"
    assert complaints(brain) == []


@pytest.mark.parametrize("events", [[], [{"x": "y" * 1000}] * 200], ids=["empty-batches", "large-batches"])
async def test_batches_that_cannot_be_written_are_not_read(brain, credential, events):
    before = await warm(brain)
    payload = canonical({"events": events})
    async with Peer(brain.ws_url, credential) as canary:
        peers = [await Peer(brain.ws_url, credential).__aenter__() for _ in range(ATTACKERS)]
        with stalled_database(brain):
            tasks = [asyncio.create_task(send_for_ever(peer, payload)) for peer in peers]
            await asyncio.sleep(6)
            grown = memory(brain) - before
            for task in tasks:
                task.cancel()
            sent = await asyncio.gather(*tasks, return_exceptions=True)
        assert (await asyncio.wait_for(canary.deliver(life("canary")[:1]), 60)).accepted == 1
    assert len(sent) == ATTACKERS
    assert grown <= ATTACKERS * COST + NOISE, f"{grown / limits.MIB:.1f} MiB"
    await asyncio.gather(*(peer.socket.close() for peer in peers), return_exceptions=True)
    assert complaints(brain) == []


async def send_for_ever(peer: Peer, payload: bytes) -> None:
    """Send batches as fast as the brain takes them, for 40 MiB or 100,000 frames at the most."""
    sent = 0
    for _ in range(100_000):
        if sent > 40 * limits.MIB:
            return
        sealed = peer.signer.seal_raw("event_batch", uuid.uuid4().hex, payload)
        sent += len(sealed)
        await peer.socket.send(sealed)


@pytest.mark.slow
async def test_a_peer_that_never_reads_its_acks_is_cut(brain, credential, closing_at_end):
    before = await warm(brain)
    raw = closing_at_end.enter_context(RawSocket(brain.ws_url, receive_buffer=4096))
    raw.upgrade(credential["token"])
    raw.send(BINARY, HELLO)
    peer = Peer(brain.ws_url, credential)
    peer.adopt(raw.receive()[1])
    stop = time.monotonic() + 120
    payload = canonical({"events": []})

    def send() -> bool:
        """Send without ever reading; True when the brain has cut the connection."""
        raw.socket.settimeout(1)
        while time.monotonic() < stop:
            sealed = frame(BINARY, peer.signer.seal_raw("event_batch", uuid.uuid4().hex, payload))
            view = memoryview(sealed)
            while view:
                try:
                    view = view[raw.socket.send(view) :]
                except TimeoutError:
                    if time.monotonic() > stop:
                        return False
                except OSError:
                    return True
        return False

    async with Neighbour(brain):
        assert await asyncio.to_thread(send)
    assert memory(brain) - before <= COST + NOISE
    assert "has not read what was sent to it" in brain.text()
    assert complaints(brain) == []


async def test_pings_without_end_are_closed_with_4429(brain, credential):
    with RawSocket(brain.ws_url) as raw:
        raw.upgrade(credential["token"])
        raw.send(BINARY, HELLO)
        raw.socket.sendall(frame(PING) * 200)
        assert await asyncio.to_thread(raw.close_code) == 4429
    assert "pings in" in brain.text()


async def test_a_message_in_thousands_of_pieces_arrives_whole(brain, credential):
    with RawSocket(brain.ws_url) as raw:
        raw.upgrade(credential["token"])
        whole = canonical(encode(Hello(id="pieces", worker_id="p" * 200)))
        pieces = [whole[start : start + 1] for start in range(len(whole))]
        stream = frame(BINARY, fin=False) + b"".join(frame(CONTINUATION, piece, fin=False) for piece in pieces)
        for start in range(0, len(stream), 3):
            raw.socket.sendall(stream[start : start + 3])
        raw.socket.sendall(frame(PING) + frame(CONTINUATION))
        kinds = [raw.receive()[0] for _ in range(2)]
        assert sorted(kinds) == [BINARY, 10]


@pytest.mark.slow
async def test_dawdling_connections_are_closed_and_others_served(brain, credential, closing_at_end):
    """Slow headers, no headers, no ``hello``; each is gone after its deadline, however often a byte comes."""
    silent, slow, mute, half = (closing_at_end.enter_context(RawSocket(brain.ws_url)) for _ in range(4))
    mute.upgrade(credential["token"])
    half.upgrade(credential["token"])
    half.socket.sendall(frame(BINARY, HELLO)[:-5])
    slow.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")

    def drip() -> bytes:
        for _ in range(30):
            slow.socket.settimeout(1)
            try:
                slow.socket.sendall(b"X: y\r\n")
                return slow.socket.recv(200)
            except TimeoutError:
                continue
            except OSError:
                return b"reset"
        return b"still open"

    async with Neighbour(brain):
        answer = await asyncio.to_thread(drip)
        assert answer == b"reset" or b" 408 " in answer
        silent.socket.settimeout(15)
        assert b" 408 " in await asyncio.to_thread(silent.socket.recv, 200)
        assert await asyncio.to_thread(mute.close_code) == 4408
        assert await asyncio.to_thread(half.close_code) == 4408
    assert complaints(brain) == []


async def test_requests_on_one_connection_go_on_after_a_pause_and_with_a_body(brain):
    with socket.create_connection(("127.0.0.1", brain.port), timeout=10) as raw:
        request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        for part in (request, request[:20], request[20:]):
            raw.sendall(part)
            await asyncio.sleep(0.2)
        raw.sendall(b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\na=" + b"b")
        await asyncio.sleep(0.5)
        answers = raw.recv(200_000)
    assert [int(code) for code in re.findall(rb"HTTP/1.1 (\d+)", answers)] == [200, 200, 403]


async def test_a_body_that_is_too_large_is_refused_before_it_comes(brain):
    for head in (b"Content-Length: 99999999", b"Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", brain.port), timeout=10) as raw:
            raw.sendall(b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n\r\n")
            if b"chunked" in head:
                chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
                await asyncio.to_thread(push, raw, chunk, 17 * limits.MIB)
            raw.settimeout(10)
            assert b" 413 " in raw.recv(200)


async def test_the_caps_hold_and_say_so_in_few_lines():
    caps = {"Z4J_MAX_SOCKETS": "60", "Z4J_MAX_SOCKETS_PER_ADDRESS": "50", "Z4J_MAX_SOCKETS_PER_AGENT": "20"}
    with running_brain(**caps) as own:
        credential, other = own.mint("crowd"), own.mint("other")

        async def join() -> int:
            peer = Peer(own.ws_url, credential, worker_id=uuid.uuid4().hex)
            try:
                await peer.__aenter__()
            except websockets.ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006
            peers.append(peer)
            return 0

        peers: list[Peer] = []
        codes = await asyncio.gather(*(join() for _ in range(40)))
        assert sorted(codes) == [0] * 20 + [4429] * 20
        async with Peer(own.ws_url, other) as peer:
            assert (await peer.deliver(life("other")[:1])).accepted == 1
        await peers.pop().socket.close()
        assert await joined_again(join) == 0
        idle = [RawSocket(own.ws_url) for _ in range(40)]
        with pytest.raises(websockets.InvalidStatus) as refused:
            await Peer(own.ws_url, other).open()
        assert refused.value.response.status_code == 503
        for raw in [*idle, *(RawSocket(own.ws_url) for _ in range(100))]:
            raw.socket.close()
        await asyncio.gather(*(peer.socket.close() for peer in peers))
        eventually(lambda: urlopen(f"{own.url}/healthz", timeout=5).status == 200)
        assert 0 < own.text().count("refused a connection") <= 21
        assert complaints(own) == []


async def joined_again(join) -> int:
    """Try until the seat that was given up is free; return the last code."""
    for _ in range(50):
        if (code := await join()) == 0:
            return code
        await asyncio.sleep(0.1)
    return code


async def test_a_storm_of_agents_with_full_buffers_is_taken_whole(brain):
    """Three hundred at one moment: all events stored once, all of them online, also with heartbeats in between."""
    credential = brain.mint(f"storm-{uuid.uuid4().hex[:6]}")
    names = [uuid.uuid4().hex for _ in range(300)]

    async def agent(name: str) -> Peer:
        peer = await Peer(brain.ws_url, credential, worker_id=f"storm-{name}").__aenter__()
        await peer.send(Heartbeat(id="beat", buffer_size=8))
        for part in range(2):
            await peer.send(EventBatch(id=f"{name}-{part}", events=tuple(life(f"storm-{name}-{part}"))))
        await peer.send(Heartbeat(id="beat", buffer_size=3))
        acked: list[str] = []
        while len(acked) < 2:
            acked.append((await peer.receive()).acked_id)
        assert acked == [f"{name}-0", f"{name}-1"]
        return peer

    peers = await asyncio.wait_for(asyncio.gather(*(agent(name) for name in names)), 120)
    find = (
        "[Event.objects.filter(task_id__startswith='storm-').count(),"
        " Task.objects.filter(task_id__startswith='storm-', state='succeeded').count(),"
        " AgentProcess.objects.filter(worker_id__startswith='storm-', state='online', buffer_depth=3).count()]"
    )
    assert await asyncio.to_thread(eventually, lambda: brain.query(find) == [2400, 600, 300], timeout=20)
    await asyncio.gather(*(peer.socket.close() for peer in peers))
    gone = "AgentProcess.objects.filter(worker_id__startswith='storm-', state='online').count() == 0"
    assert await asyncio.to_thread(eventually, lambda: brain.query(gone), timeout=20)
    assert complaints(brain) == []
