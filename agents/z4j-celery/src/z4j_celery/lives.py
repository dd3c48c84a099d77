"""What a worker remembers of the tasks it holds: the dispatcher's events carry an id and nothing else.

A retry may be received, and even end in another child, before the attempt in front of it is told as retried. So each
task has a row of attempts: what is retried is the oldest of them, what ends for good is the newest that has started.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict

_CAP = 50_000
_ENDED_CAP = 5_000


@dataclasses.dataclass(slots=True)
class Attempt:
    """One attempt of one task: what every event of it repeats."""

    name: str
    queue: str | None
    number: int
    started: bool = False
    #: Exception class, when a signal told it before the dispatcher's event.
    exception: str = ""


class Lives:
    """The attempts that have not ended, by task id, oldest task forgotten first when there are too many."""

    def __init__(self, cap: int = _CAP) -> None:
        self._cap = cap
        self._attempts: OrderedDict[str, list[Attempt]] = OrderedDict()
        self._ended: OrderedDict[str, tuple[Attempt | None, set[str]]] = OrderedDict()

    def received(self, task_id: str, attempt: Attempt) -> None:
        """Remember an attempt that has arrived."""
        self._ended.pop(task_id, None)
        self._attempts.setdefault(task_id, []).append(attempt)
        while len(self._attempts) > self._cap:
            self._attempts.popitem(last=False)

    def started(self, task_id: str) -> Attempt | None:
        """Return the attempt that has started now."""
        for attempt in self._attempts.get(task_id, ()):
            if not attempt.started:
                attempt.started = True
                return attempt
        return None

    def running(self, task_id: str) -> Attempt | None:
        """Return the oldest attempt of a task, started or not."""
        attempts = self._attempts.get(task_id)
        return attempts[0] if attempts else None

    def ended(self, task_id: str, kind: str) -> tuple[Attempt | None, bool]:
        """Return the attempt that has ended as ``kind``, and whether this end was told before."""
        told = False
        attempt: Attempt | None
        attempts = self._attempts.get(task_id)
        if attempts:
            attempt = attempts.pop(_which(attempts, kind))
            if not attempts:
                del self._attempts[task_id]
            self._ended[task_id] = (attempt, {kind})
        else:
            # One end may be told in two words (failed and rejected), or twice in the same.
            last, kinds = self._ended.setdefault(task_id, (None, set()))
            told = kind in kinds
            kinds.add(kind)
            attempt = last
        while len(self._ended) > _ENDED_CAP:
            self._ended.popitem(last=False)
        return attempt, told

    def __len__(self) -> int:
        return len(self._attempts)


def _which(attempts: list[Attempt], kind: str) -> int:
    if kind == "retried":
        return 0
    started = [index for index, attempt in enumerate(attempts) if attempt.started]
    return started[-1] if started else len(attempts) - 1
