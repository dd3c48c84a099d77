"""The journal: what was produced, written down before z4j is handed it, and independently of z4j.

One file a producer, one JSON line a note, each written with one system call, so that SIGKILL takes no line back.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

QUEUES = ("mail", "reports", "media")
NAMES = ("shop.pay", "shop.mail", "shop.thumbnail", "shop.report")
#: The moments of an attempt in the order of what they outrank, and the state each stands for.
MOMENTS = {
    "task.sent": "pending",
    "task.received": "received",
    "task.started": "started",
    "task.retried": "retry",
    "task.failed": "failed",
    "task.succeeded": "succeeded",
}
_ORDER = list(MOMENTS)


@dataclasses.dataclass(frozen=True, slots=True)
class Produced:
    """One event as the journal knows it."""

    key: str
    task: str
    kind: str
    attempt: int

    @property
    def standing(self) -> tuple[int, int]:
        """How much it says of its task's state: the greatest tells it."""
        return self.attempt, _ORDER.index(self.kind)


def state_of(events: Iterable[Produced]) -> str:
    """Return the state in which the events leave their task."""
    last = max(events, key=lambda one: one.standing)
    waiting = last.kind in ("task.sent", "task.received")
    return "retry" if last.attempt and waiting else MOMENTS[last.kind]


class Journal:
    """Writes one file of notes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def produced(self, events: Iterable[dict[str, Any]]) -> None:
        """Note events that are about to be handed over."""
        lines = [[event["id"], event["task_id"], event["kind"], event["data"]["attempt"]] for event in events]
        data = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        assert os.write(self._file, data) == len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> list[Produced]:
    """Return a journal's events in the order of their production.

    A last line without its end was never finished, so its event was never handed over.
    """
    text = path.read_text()
    return [Produced(*json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


class Work:
    """Makes up the lives of tasks, several of them open at a time: retries, failures and successes."""

    def __init__(self, chance: random.Random, *, open_lives: int = 20) -> None:
        self._chance = chance
        self._size = open_lives
        self._open: list[list[dict[str, Any]]] = []

    def events(self, count: int, now: float) -> list[dict[str, Any]]:
        """Return the next events, told to happen from ``now`` (seconds since 1970) on, a millisecond apart."""
        made = []
        while len(made) < count:
            while len(self._open) < self._size:
                self._open.append(self._life())
            made.append(self._next(now, len(made)))
        return made

    def rest(self, now: float) -> list[dict[str, Any]]:
        """Return what is left of the open lives."""
        made: list[dict[str, Any]] = []
        while self._open:
            made.append(self._next(now, len(made)))
        return made

    def _next(self, now: float, number: int) -> dict[str, Any]:
        life = self._chance.choice(self._open)
        event = life.pop(0)
        if not life:
            self._open.remove(life)
        moment = datetime.fromtimestamp(now, UTC) + timedelta(milliseconds=number)
        return event | {"occurred_at": moment.isoformat()}

    def _life(self) -> list[dict[str, Any]]:
        task, queue, name = (
            str(uuid.UUID(int=self._chance.getrandbits(128))),
            *map(self._chance.choice, (QUEUES, NAMES)),
        )
        common = {"task_name": name, "queue": queue, "worker": "w1"}
        attempts = 1 + (self._chance.random() < 0.15)
        moments = [("sent", 0)]
        for attempt in range(attempts):
            last = attempt == attempts - 1
            end = "retried" if not last else "failed" if self._chance.random() < 0.1 else "succeeded"
            moments += [("received", attempt), ("started", attempt), (end, attempt)]
        ends = {"succeeded": {"result": "'ok'", "runtime_ms": 12.0}, "failed": {"exception": "ValueError"}}
        return [
            {
                "id": (key := str(uuid.UUID(int=self._chance.getrandbits(128)))),
                "kind": f"task.{kind}",
                "engine": "celery",
                "task_id": task,
                "data": {**common, "attempt": attempt, "journal": key, **ends.get(kind, {})},
            }
            for kind, attempt in moments
        ]
