"""Whether removing what is past retention holds up what comes in.

``python -m bench.retention [--database sqlite|postgresql] [--rows N] [--seconds S]`` stores N events that are past
retention, then measures acknowledgements under 1,000 events a second: first undisturbed, then while they are removed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

from z4j_core.signing import canonical

from bench.ingest import Target, database, percentile
from bench.load import Lane, Stock, flood, life, payloads, steady
from tests.brainprocess import BrainProcess, running_brain

LANES, FRAME, RATE = 10, 10, 1_000


def aged(count: int, days: int) -> Stock:
    """Return batches of events that happened ``days`` ago."""
    moment, made = (datetime.now(UTC) - timedelta(days=days)).isoformat(), []
    for number in range(count // 300):
        events = [event | {"occurred_at": moment} for each in range(100) for event in life(number * 100 + each)]
        made.append((canonical({"events": events}), len(events)))
    return made


async def acknowledged(target: Target, seconds: float) -> list[float]:
    """Return how long each acknowledgement took, in seconds."""
    every = LANES * FRAME / RATE
    stock = payloads(FRAME, int((seconds + 2) / every) * LANES)
    lanes: list[Lane] = await asyncio.gather(
        *(steady(target.url, target.credential, stock, every, seconds) for _ in range(LANES))
    )
    return [wait for lane in lanes for wait in lane.waits]


def line(what: str, waits: list[float]) -> None:
    """Print one line."""
    longest = max(waits) * 1000
    slow = sum(wait > 0.05 for wait in waits)
    print(
        f"  {what:12} ack p50 {percentile(waits, 50):>5.1f}  p99 {percentile(waits, 99):>5.1f}  "
        f"longest {longest:>5.0f} ms   over 50 ms: {slow} of {len(waits):,}",
        flush=True,
    )


async def run(target: Target, brain: BrainProcess, rows: int, seconds: float) -> None:
    """Print both."""
    stock = aged(rows, 20)
    await asyncio.gather(
        *(flood(target.url, target.credential, stock, lambda: time.monotonic() + 60) for _ in range(4))
    )
    line("undisturbed", await acknowledged(target, seconds))
    await asyncio.to_thread(brain.query, "Project.objects.update(event_retention_days=7)")
    removing = asyncio.create_task(asyncio.to_thread(brain.manage, "partitions", "--repair", "--json"))
    waits = await acknowledged(target, seconds)
    over = removing.done()
    repaired = json.loads(await removing)["repaired"]
    line("removing", waits)
    print(
        f"  removed {repaired['events']:,} events and {repaired['days']} days; done within the run: {over}", flush=True
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        print(kind, flush=True)
        with database(kind) as (url, processes), running_brain(url) as brain:
            target = Target(brain.ws_url, brain.mint("bench"), brain, processes)
            asyncio.run(run(target, brain, arguments.rows, arguments.seconds))


if __name__ == "__main__":
    main()
