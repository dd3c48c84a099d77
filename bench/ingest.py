"""How many events a second the brain takes in, end to end: real sockets, signed frames, acknowledged after the commit.

``python -m bench.ingest [--database sqlite|postgresql] [--seconds N] [--compare DIR_OR_URL]`` starts its own brain and
database and prints one line a scenario: events a second, acknowledgement p50 and p99 in ms, CPU microseconds an event
of the brain and of the database, memory of the brain. The last line of a database is a steady load of 2,000 events a
second with a person watching: how long from an event to its row on the screen.

``--compare`` runs the same load against the brain of another checkout, or against any brain of protocol 2 at a URL
(token and HMAC secret in ``BENCH_TOKEN`` and ``BENCH_HMAC_SECRET``; its own processes are not measured).

Client, brain and database share this machine's cores, so the rates are a floor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Iterator
from pathlib import Path

import psutil

from bench.load import Lane, flood, payloads, steady
from bench.screen import Watch
from tests.brainprocess import BrainProcess, running_brain
from tests.servers import Postgres

#: Events a frame, sockets.
FLOODS = ((100, 4), (1, 50), (500, 4))
STEADY_RATE, STEADY_LANES, STEADY_FRAME = 2_000, 20, 10
#: Events a second to make ready for, by frame size.
GUESS = {1: 12_000, 100: 50_000, 500: 50_000}


@dataclasses.dataclass
class Target:
    """A brain under load. ``brain`` is None for one that is not ours to look into."""

    url: str
    credential: dict[str, str]
    brain: BrainProcess | None = None
    databases: list[psutil.Process] = dataclasses.field(default_factory=list)

    @property
    def processes(self) -> list[psutil.Process]:
        """The brain's process."""
        if self.brain is None or self.brain.process is None:
            return []
        return [psutil.Process(self.brain.process.pid)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time of processes and of their children, in seconds."""
    total = 0.0
    for process in processes:
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                total += times.user + times.system
    return total


def percentile(waits: list[float], percent: int) -> float:
    """Return a percentile of waits, in milliseconds."""
    return statistics.quantiles(waits, n=100)[percent - 1] * 1000 if len(waits) > 1 else 0.0


async def measure(target: Target, what: str, run: Awaitable[list[Lane]], seconds: float | None = None) -> float:
    """Run one scenario, print its line and return its rate in events a second, over ``seconds`` if they are set."""
    before = (cpu_seconds(target.processes), cpu_seconds(target.databases))
    start = time.monotonic()
    lanes = await run
    elapsed = seconds or time.monotonic() - start
    events = sum(lane.events for lane in lanes)
    waits = [wait for lane in lanes for wait in lane.waits]
    line = f"{what}: {events / elapsed:>8,.0f} events/s   ack p50 {percentile(waits, 50):>6.0f} ms"
    line += f"  p99 {percentile(waits, 99):>6.0f} ms"
    if target.processes:
        brain = (cpu_seconds(target.processes) - before[0]) / events * 1e6
        database = (cpu_seconds(target.databases) - before[1]) / events * 1e6
        memory = target.processes[0].memory_info().rss / 2**20
        line += f"   brain {brain:>5.1f} us/event  database {database:>5.1f} us/event   brain memory {memory:.0f} MiB"
    print(line, flush=True)
    return events / elapsed


async def flooded(target: Target, size: int, lanes: int, seconds: float) -> float:
    """Measure and return the greatest rate with ``size`` events a frame on ``lanes`` sockets."""
    stock = payloads(size, int(seconds * GUESS[size] / size))
    start = time.monotonic()

    async def run() -> list[Lane]:
        drives = (flood(target.url, target.credential, stock, lambda: start + seconds) for _ in range(lanes))
        return await asyncio.gather(*drives)

    rate = await measure(target, f"{size:>4} events/frame x {lanes:>2} sockets", run())
    if not stock:
        print("  the stock ran out: the rate is a floor", flush=True)
    return rate


async def steadily(target: Target, seconds: float) -> None:
    """Measure acknowledgements, and the way to the screen, under a load the brain has room for."""
    every = STEADY_FRAME * STEADY_LANES / STEADY_RATE
    stock = payloads(STEADY_FRAME, int((seconds + 1) / every) * STEADY_LANES)
    watch = Watch(target.brain, target.credential) if target.brain is not None else None

    async def run() -> list[Lane]:
        drives = [steady(target.url, target.credential, stock, every, seconds) for _ in range(STEADY_LANES)]
        lanes = await asyncio.gather(*drives, *([watch.run(seconds)] if watch else []))
        return lanes[:STEADY_LANES]

    what = f"{STEADY_FRAME:>4} events/frame x {STEADY_LANES:>2} sockets, paced"
    await measure(target, what, run(), seconds)
    if watch is not None:
        times = sorted(watch.times)
        print(f"  event to screen: median {statistics.median(times):.2f} s, longest {times[-1]:.2f} s", flush=True)


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


def run_all(target: Target, seconds: float) -> None:
    """Run every scenario."""
    for size, lanes in FLOODS:
        asyncio.run(flooded(target, size, lanes, seconds))
    asyncio.run(steadily(target, seconds))


def local(kind: str, seconds: float, root: Path | None) -> None:
    """Run against a brain of this or another checkout."""
    with database(kind) as (url, processes), running_brain(url, *([root] if root else [])) as brain:
        target = Target(brain.ws_url, brain.mint(f"bench-{uuid.uuid4().hex[:4]}"), brain, processes)
        idle = target.processes[0].memory_info().rss / 2**20
        print(f"{kind}{f' in {root}' if root else ''}: brain idle {idle:.0f} MiB", flush=True)
        run_all(target, seconds)


def main() -> None:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--compare", metavar="DIR_OR_URL")
    arguments = parser.parse_args()
    other: str = arguments.compare or ""
    for kind in arguments.database or ["sqlite", "postgresql"]:
        local(kind, arguments.seconds, None)
        if other and "://" not in other:
            local(kind, arguments.seconds, Path(other).resolve())
    if "://" in other:
        try:
            credential = {"token": os.environ["BENCH_TOKEN"], "hmac_secret": os.environ["BENCH_HMAC_SECRET"]}
        except KeyError as missing:
            sys.exit(f"set {missing.args[0]}: a token and its HMAC secret, minted in the brain at {other}")
        address = other.replace("http", "ws", 1).rstrip("/")
        print(other, flush=True)
        run_all(Target(f"{address}/ws/agent", credential), arguments.seconds)


if __name__ == "__main__":
    main()
