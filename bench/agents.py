"""Many agents at once: what idle sockets cost, whether their heartbeats are handled on time, and a reconnect storm.

``python -m bench.agents [--database sqlite|postgresql] [--sockets N] [--storm N] [--slow N] [--seconds N] [--quick]``
starts its own brain and database and prints three lines a database. Client, brain and database share this machine's
cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import random
import resource
import statistics
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import websockets
from z4j_core.frames import AgentStatus, EventBatchAck, Heartbeat

from bench.ingest import cpu_seconds, database
from bench.load import life, payloads
from tests.brainprocess import BrainProcess, running_brain
from tests.wire.peer import Peer

#: Sockets of one credential, and handshakes this client has open at a time.
PER_CREDENTIAL, CONNECTING = 1000, 200
BEAT_SECONDS = 30.0
STORM_EVENTS, STORM_BATCH = 200, 100


@dataclasses.dataclass
class Crowd:
    """Connected peers, and what it took to connect them."""

    peers: list[Peer] = dataclasses.field(default_factory=list)
    refused: int = 0
    lost: int = 0
    beaten_at: dict[str, float] = dataclasses.field(default_factory=dict)

    async def close(self) -> None:
        """Close all sockets."""
        await asyncio.gather(*(peer.socket.close() for peer in self.peers), return_exceptions=True)


@contextlib.contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process have ``count`` sockets open. Raises ``ValueError`` when the hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 256), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def join(crowd: Crowd, url: str, credential: dict[str, str]) -> Peer:
    """Connect one peer, trying again after a second or two as an agent does."""
    while True:
        peer = Peer(url, credential, worker_id=f"bench-{uuid.uuid4().hex}", runtime_features=("z4j_batch_v1",))
        try:
            await peer.__aenter__()
        except (OSError, TimeoutError, websockets.WebSocketException):
            crowd.refused += 1
            await asyncio.sleep(random.uniform(1, 2))
        else:
            crowd.peers.append(peer)
            return peer


async def beat(crowd: Crowd, peer: Peer) -> None:
    """Send what an idle agent sends every thirty seconds."""
    crowd.beaten_at[peer.hello["worker_id"]] = time.time()
    health = {"celery.broker_connected": "true", "celery.queue_depths": json.dumps({"mail": 3, "default": 0})}
    with contextlib.suppress(websockets.ConnectionClosed):
        await peer.send(Heartbeat(id=uuid.uuid4().hex, adapter_health=health))
        await peer.send(AgentStatus(id=uuid.uuid4().hex, engines=("celery",)))


async def keep_beating(crowd: Crowd, peer: Peer, until: float) -> None:
    """Send heartbeats from a random moment on, and read what comes."""
    await asyncio.sleep(random.uniform(0, BEAT_SECONDS))
    while time.monotonic() < until:
        await beat(crowd, peer)
        await asyncio.sleep(BEAT_SECONDS)


async def probe(peer: Peer, until: float) -> list[float]:
    """Deliver one event after the other; return how long each took to be acknowledged, in seconds."""
    waits = []
    while time.monotonic() < until:
        start = time.monotonic()
        await peer.deliver(life(len(waits))[:1])
        waits.append(time.monotonic() - start)
        await asyncio.sleep(0.1)
    return waits


def p99(waits: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(waits, n=100)[98] if len(waits) > 1 else 0.0


def lags(brain: BrainProcess, crowd: Crowd) -> tuple[list[float], int]:
    """Return how long after its sending each newest heartbeat was noted, in seconds, and how many are offline."""
    rows = brain.query(
        "[[w, t.timestamp() if t else 0, s] for w, t, s in AgentProcess.objects.filter(worker_id__startswith='bench-')"
        ".values_list('worker_id', 'told_at', 'state')]"
    )
    noted = {worker_id: told for worker_id, told, _ in rows}
    missing = BEAT_SECONDS
    waits = [max(0.0, noted[name] - sent) if noted.get(name, 0) else missing for name, sent in crowd.beaten_at.items()]
    present = {peer.hello["worker_id"] for peer in crowd.peers}
    return waits, sum(state != "online" for worker_id, _, state in rows if worker_id in present)


async def idle(brain: BrainProcess, credentials: list[dict[str, str]], count: int, seconds: float) -> str:
    """Connect ``count`` sockets, let them beat for a while, and say what they cost."""
    assert brain.process is not None
    process = psutil.Process(brain.process.pid)
    before = process.memory_info().rss
    crowd, gate = Crowd(), asyncio.Semaphore(CONNECTING)

    async def one(number: int) -> None:
        async with gate:
            await join(crowd, brain.ws_url, credentials[number // PER_CREDENTIAL])

    start = time.monotonic()
    await asyncio.gather(*(one(number) for number in range(count)))
    took = time.monotonic() - start
    await asyncio.sleep(2)
    after = process.memory_info().rss
    cpu, start = cpu_seconds([process]), time.monotonic()
    async with Peer(brain.ws_url, credentials[-1]) as neighbour:
        until = start + seconds
        tasks = [asyncio.create_task(keep_beating(crowd, peer, until)) for peer in crowd.peers]
        waits = await probe(neighbour, until)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    cpu = (cpu_seconds([process]) - cpu) / (time.monotonic() - start)
    await asyncio.sleep(2)
    late, offline = await asyncio.to_thread(lags, brain, crowd)
    lost = sum(peer.socket.close_code is not None for peer in crowd.peers)
    await crowd.close()
    return (
        f"{count} idle sockets: connected in {took:.1f} s ({crowd.refused} tries refused), "
        f"{(after - before) / count / 1024:.1f} KiB each, brain {process.memory_info().rss / 2**20:.0f} MiB, "
        f"{cpu:.0%} of a core; {len(crowd.beaten_at)} heartbeats noted after p99 {p99(late) * 1000:.0f} ms; "
        f"neighbour's ack p99 {p99(waits) * 1000:.0f} ms; {lost} lost, {offline} shown offline"
    )


async def empty_buffer(crowd: Crowd, url: str, credential: dict[str, str], stock: list[bytes]) -> int:
    """Connect and send what is buffered, again after a lost connection, until all of it is acknowledged."""
    waiting = {uuid.uuid4().hex: payload for payload in stock}
    accepted = 0
    while waiting:
        peer = await join(crowd, url, credential)
        order = list(waiting)
        try:
            for name in order:
                await peer.socket.send(peer.signer.seal_raw("event_batch", name, waiting[name]))
            while waiting:
                frame = await peer.receive()
                if isinstance(frame, EventBatchAck):
                    accepted += frame.accepted
                    for name in order[: order.index(frame.acked_id) + 1]:
                        waiting.pop(name, None)
        except websockets.ConnectionClosed:
            crowd.lost += 1
            await asyncio.sleep(random.uniform(1, 2))
    return accepted


async def storm(brain: BrainProcess, credentials: list[dict[str, str]], count: int) -> str:
    """Let ``count`` agents come at the same moment, each with a full buffer, and say how long it takes."""
    batches = STORM_EVENTS // STORM_BATCH
    stock = [payload for payload, _ in payloads(STORM_BATCH, count * batches)]
    before = await asyncio.to_thread(brain.query, "Event.objects.count()")
    crowd, since, start = Crowd(), datetime.now(UTC).isoformat(), time.monotonic()
    done = await asyncio.gather(
        *(
            empty_buffer(crowd, brain.ws_url, credentials[i // PER_CREDENTIAL], stock[i * batches : (i + 1) * batches])
            for i in range(count)
        )
    )
    took = time.monotonic() - start
    stored = await asyncio.to_thread(brain.query, "Event.objects.count()")
    offline = await asyncio.to_thread(
        brain.query,
        f"AgentProcess.objects.filter(connected_at__gte='{since}', state='offline').count()",
    )
    await crowd.close()
    return (
        f"storm of {count} agents with {STORM_EVENTS} events each: {sum(done)} acknowledged, {stored - before} visible "
        f"after {took:.1f} s ({crowd.refused} tries refused, {crowd.lost} connections lost), {offline} shown offline"
    )


async def dawdle(port: int, until: float) -> float:
    """Send the headers of a request byte by byte; return after how many seconds the brain closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    start = time.monotonic()
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    with contextlib.suppress(ConnectionError, TimeoutError):
        while time.monotonic() < until:
            writer.write(b"X: y\r\n")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                if not await asyncio.wait_for(reader.read(500), 1):
                    break
    writer.close()
    return time.monotonic() - start


async def slow(brain: BrainProcess, credential: dict[str, str], count: int) -> str:
    """Let ``count`` clients dawdle over their headers, and say what that does to a neighbour."""
    async with Peer(brain.ws_url, credential) as neighbour:
        quiet = await probe(neighbour, time.monotonic() + 10)
        until = time.monotonic() + 30
        attackers = [asyncio.create_task(dawdle(brain.port, until)) for _ in range(count)]
        waits = await probe(neighbour, time.monotonic() + 15)
        gone = max(await asyncio.gather(*attackers))
    return (
        f"{count} clients with slow headers: the last gone after {gone:.1f} s; neighbour's ack p99 "
        f"{p99(quiet) * 1000:.0f} ms before, {p99(waits) * 1000:.0f} ms meanwhile"
    )


def run(kind: str, arguments: argparse.Namespace) -> None:
    """Run both scenarios on one database and print a line each."""
    with database(kind) as (url, _), running_brain(url) as brain:
        needed = -(-max(arguments.sockets, arguments.storm) // PER_CREDENTIAL)
        credentials = [brain.mint(f"bench-{number}") for number in range(needed)]
        spare = brain.mint("bench-neighbour")
        if arguments.sockets:
            line = asyncio.run(idle(brain, [*credentials, spare], arguments.sockets, arguments.seconds))
            print(f"{kind}: {line}", flush=True)
        if arguments.storm:
            print(f"{kind}: {asyncio.run(storm(brain, credentials, arguments.storm))}", flush=True)
        if arguments.slow:
            print(f"{kind}: {asyncio.run(slow(brain, spare, arguments.slow))}", flush=True)
        for line in [line for line in brain.text().splitlines() if " ERROR " in line][:5]:
            print(f"  the brain's log: {line}", flush=True)


def main() -> None:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--storm", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="1000 sockets and a storm of 300, for 35 s")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sockets, arguments.storm, arguments.seconds = 1000, 300, 35.0
    with many_files(max(arguments.sockets, arguments.storm)):
        for kind in arguments.database or ["sqlite", "postgresql"]:
            run(kind, arguments)


if __name__ == "__main__":
    main()
