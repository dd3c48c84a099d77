"""What the database alone can do: the same rows, made ready before the clock runs, COPYed or inserted by a bare driver.

``python -m bench.raw [--database sqlite|postgresql] [--seconds N]`` prints events a second of that, then of the whole
way through a brain with 100 events a frame on 4 sockets in the same minutes, and the ratio of the two.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from bench.ingest import Target, database, flooded
from bench.rows import GROUP, prepared, write_postgresql, write_sqlite
from tests.brainprocess import running_brain


def compare(kind: str, seconds: float) -> None:
    """Print both rates and their ratio."""
    with database(kind) as (url, processes), running_brain(url) as brain:
        groups = list(prepared(kind, max(1, int(seconds * 40_000 / (GROUP * 100)))))
        events = sum(len(rows) for rows, _ in groups)
        if kind == "postgresql":
            write = write_postgresql(url, groups)
        else:
            write = write_sqlite(str(brain.home / "z4j.db"), groups)
        start = time.monotonic()
        write()
        raw = events / (time.monotonic() - start)
        print(f"{kind}: rows alone {raw:,.0f} events/s", flush=True)
        target = Target(brain.ws_url, brain.mint("raw"), brain, processes)
        rate = asyncio.run(flooded(target, 100, 4, seconds))
        print(f"{kind}: a brain in between reaches {rate / raw:.0%} of it", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        compare(kind, arguments.seconds)


if __name__ == "__main__":
    main()
