"""A real agent in a process of its own: journals each event, then hands it to z4j. Started by :class:`RealAgent`.

The child takes orders on its standard input: ``rest``, ``work``, ``step SECONDS`` (its wall clock), ``end``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.delivery.journal import Journal, Produced, Work, read

_ROOT = Path(__file__).resolve().parents[2]
_TICK = 0.01


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a child is to do: ``limit`` events in all (None: until told to rest), ``burst`` of them a tick of 10 ms."""

    journal: str
    options: dict[str, Any]
    seed: int
    burst: int = 5
    limit: int | None = None


class RealAgent:
    """The parent's end of one agent process."""

    def __init__(self, url: str, token: str, folder: Path, number: int, seed: int, **more: Any) -> None:
        self.journal = folder / f"agent-{number:04}"
        self.buffers = folder.parent / "buffers"
        options = {
            "brain_url": url,
            "token": token,
            "agent_name": "real",
            "heartbeat_interval": 1,
            "reconnect_backoff_max": 1,
            "buffer_path": str(self.buffers),
            **more.pop("options", {}),
        }
        orders = Orders(journal=str(self.journal), options=options, seed=seed, **more)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("Z4J_")}
        self.log = folder.parent / f"agent-{number:04}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.delivery.agentprocess", json.dumps(dataclasses.asdict(orders))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=_ROOT, env=environment, text=True,
            )  # fmt: skip

    def order(self, text: str) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def kill(self) -> int:
        """End it with SIGKILL; return its exit status, which says whether it still ran."""
        self.process.kill()
        return self._over()

    def end(self, seconds: float = 60.0) -> dict[str, Any]:
        """Let it finish and deliver; return the agent's own counters at its end."""
        self.order("end")
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        assert answer, self.log.read_text()
        self.process.wait(seconds)
        assert self._over() == 0, self.log.read_text()
        return json.loads(answer)

    def _over(self) -> int:
        status = self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        return status

    def produced(self) -> list[Produced]:
        """Read its journal."""
        return read(self.journal) if self.journal.exists() else []

    def on_disk(self) -> int:
        """Return how many events it has written to its buffer file since it began, read from the file itself."""
        found = list(self.buffers.glob(f"buffer-*-{self.process.pid}-*.db"))
        if not found:
            return 0
        with contextlib.closing(sqlite3.connect(f"file:{found[0]}?mode=ro", uri=True, timeout=10)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'counter'").fetchone():
                return 0
            row = database.execute("SELECT value FROM counter WHERE name = 'seq'").fetchone()
        return row[0] if row else 0

    def discard(self) -> None:
        """End it if a test that failed has left it behind."""
        if self.process.poll() is None:
            self.kill()


class WallClock:
    """The wall clock of a child: the real one, moved by ``offset`` seconds; monotonic time is not touched."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._real = time.time

    def __call__(self) -> float:
        return self._real() + self.offset


class _Child:
    def __init__(self, orders: Orders, clock: WallClock) -> None:
        # Imported late, so that all of the agent finds the clock of this process replaced.
        from z4j_bare import install_agent

        self._clock = clock
        self._orders = orders
        self._journal = Journal(Path(orders.journal))
        self._work = Work(random.Random(orders.seed))
        self._working = threading.Event()
        self._working.set()
        self._ending = threading.Event()
        self._made = 0
        self._runtime = install_agent(strict_mode=True, **orders.options)
        threading.Thread(target=self._obey, daemon=True).start()

    def _obey(self) -> None:
        for line in sys.stdin:
            order, _, value = line.strip().partition(" ")
            if order == "step":
                self._clock.offset = float(value)
            elif order == "end":
                self._ending.set()
            else:
                (self._working.set if order == "work" else self._working.clear)()

    def run(self) -> None:
        """Produce until told to end, then deliver everything and tell the agent's counters."""
        while not self._ending.wait(_TICK):
            left = self._orders.burst if self._orders.limit is None else self._orders.limit - self._made
            if self._working.is_set() and left > 0:
                self._record(self._work.events(min(self._orders.burst, left), time.time()))
        if self._orders.limit is None:
            self._record(self._work.rest(time.time()))
        assert self._runtime.drain(60), self._runtime.counters()
        self._runtime.stop()
        print(json.dumps(self._runtime.counters()), flush=True)

    def _record(self, events: list[dict[str, Any]]) -> None:
        from z4j_core.events import TaskEvent

        for event in events:
            self._journal.produced([event])
            moment = datetime.fromisoformat(event["occurred_at"])
            self._runtime.record_event(TaskEvent(**event | {"occurred_at": moment}))
        self._made += len(events)


def main() -> None:
    """Run a child."""
    clock = WallClock()
    time.time = clock
    _Child(Orders(**json.loads(sys.argv[1])), clock).run()


if __name__ == "__main__":
    main()
