"""How many events a second the brain takes in, end to end: real sockets, signed frames, acknowledged after the commit.

``python -m bench.ingest [--database sqlite|postgresql] [--seconds N]`` starts its own brain and database and prints one
line a scenario: events a second, acknowledgement p50 and p99 in ms, CPU microseconds an event of the brain and of the
database, memory of the brain. Client, brain and database share this machine's cores, so the rates are a floor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psutil
from z4j_core.frames import EventBatchAck
from z4j_core.signing import canonical

from tests.brainprocess import BrainProcess, running_brain
from tests.servers import Postgres
from tests.wire.peer import Peer

SCENARIOS = ((100, 4), (1, 50), (500, 4))
WINDOW = 16
#: Events a second to make ready for, by frame size.
GUESS = {1: 8_000, 100: 40_000, 500: 40_000}
NAMES = ("shop.orders.charge", "shop.mail.send_receipt", "shop.media.thumbnail", "shop.reports.build")


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


def payloads(size: int, count: int) -> list[tuple[bytes, int]]:
    """Return ``count`` canonical batch payloads of ``size`` events, made before the clock runs."""
    made, stock = [], []
    for number in range(count):
        while len(stock) < size:
            stock += life(number)
        batch, stock = stock[:size], stock[size:]
        made.append((canonical({"events": batch}), size))
    return made


async def drive(
    brain: BrainProcess, credential: dict[str, str], stock: list[tuple[bytes, int]], until: Callable[[], float]
) -> Lane:
    """Keep WINDOW batches in flight on one connection until the time is up or the stock is empty."""
    lane = Lane()
    async with Peer(brain.ws_url, credential) as peer:
        sent: deque[float] = deque()
        while True:
            while len(sent) < WINDOW and stock and time.monotonic() < until():
                payload, _ = stock.pop()
                sent.append(time.monotonic())
                await peer.socket.send(peer.signer.seal_raw("event_batch", uuid.uuid4().hex, payload))
            if not sent:
                return lane
            frame = await peer.receive()
            if isinstance(frame, EventBatchAck):
                lane.waits.append(time.monotonic() - sent.popleft())
                lane.events += frame.accepted


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time of processes and of their children, in seconds."""
    total = 0.0
    for process in processes:
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                total += times.user + times.system
    return total


async def scenario(brain: BrainProcess, databases: list[psutil.Process], size: int, lanes: int, seconds: float) -> None:
    """Run one scenario and print its line."""
    credential = brain.mint(f"bench-{size}-{lanes}-{uuid.uuid4().hex[:4]}")
    assert brain.process is not None
    process = psutil.Process(brain.process.pid)
    stock = payloads(size, int(seconds * GUESS[size] / size))
    before = (cpu_seconds([process]), cpu_seconds(databases))
    start = time.monotonic()
    results = await asyncio.gather(*(drive(brain, credential, stock, lambda: start + seconds) for _ in range(lanes)))
    elapsed = time.monotonic() - start
    if not stock:
        print("  the stock ran out: the rate is a floor", flush=True)
    events = sum(lane.events for lane in results)
    waits = sorted(wait for lane in results for wait in lane.waits)
    cuts = statistics.quantiles(waits, n=100) if len(waits) > 1 else [0.0] * 99
    brain_cpu = (cpu_seconds([process]) - before[0]) / events * 1e6
    database_cpu = (cpu_seconds(databases) - before[1]) / events * 1e6
    print(
        f"{size:>4} events/frame x {lanes:>2} sockets: {events / elapsed:>8,.0f} events/s   "
        f"ack p50 {cuts[49] * 1000:>6.0f} ms  p99 {cuts[98] * 1000:>6.0f} ms   "
        f"brain {brain_cpu:>5.1f} us/event  database {database_cpu:>5.1f} us/event   "
        f"brain memory {process.memory_info().rss / 2**20:.0f} MiB",
        flush=True,
    )


@contextlib.contextmanager
def database(kind: str) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Start the database; yield its URL and the processes whose CPU time is its cost."""
    if kind == "sqlite":
        yield "", []
        return
    server = Postgres(durable=True)
    try:
        server.initialise()
        server.start()
        assert server.process is not None
        yield server.create("bench"), [psutil.Process(server.process.pid)]
    finally:
        server.stop()


def main() -> None:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        with database(kind) as (url, processes), running_brain(url) as brain:
            assert brain.process is not None
            idle = psutil.Process(brain.process.pid).memory_info().rss / 2**20
            print(f"{kind}: brain idle {idle:.0f} MiB", flush=True)
            for size, lanes in SCENARIOS:
                asyncio.run(scenario(brain, processes, size, lanes, arguments.seconds))


if __name__ == "__main__":
    main()
