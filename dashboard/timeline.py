"""The events of a task in their true order, and its attempts. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from brain.models import Event, Task
from brain.projection import SAME_START
from brain.states import KIND_STATE, RANK, TERMINAL_STATES, TaskState
from dashboard import jsontree
from dashboard.jsontree import Number

_NO_RANK = -1
#: Events may be older than what the row of their task says, and clocks of hosts differ.
_MARGIN = timedelta(hours=1)


@dataclasses.dataclass(slots=True)
class Attempt:
    """One attempt of a task, as its events tell it."""

    number: int
    state: TaskState = TaskState.PENDING
    workers: list[str] = dataclasses.field(default_factory=list)
    starts: list[datetime] = dataclasses.field(default_factory=list)
    ended_at: datetime | None = None
    error: str = ""

    @property
    def started_at(self) -> datetime | None:
        """The first start."""
        return min(self.starts, default=None)

    @property
    def started_twice(self) -> bool:
        """Whether it was started more than once."""
        return bool(self.starts) and max(self.starts) - min(self.starts) > SAME_START

    @property
    def run_ms(self) -> float | None:
        """From the first start to the end, in milliseconds."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, (self.ended_at - self.started_at) / timedelta(milliseconds=1))


def window(task: Task) -> tuple[datetime, datetime]:
    """Return the time the events of a task lie in as far as its row knows, with an hour to either side."""
    told = (
        task.created_at, task.published_at, task.queued_at, task.received_at, task.started_at, task.last_started_at,
        task.finished_at,
    )  # fmt: skip
    moments = [moment for moment in told if moment is not None]
    # What was told last may be of any moment until then.
    return min(moments) - _MARGIN, max(*moments, task.updated_at) + _MARGIN


def attempt_of(event: Event) -> int:
    """Return the attempt an event belongs to: the number of retries before it."""
    payload = _payload(event)
    told = payload.get("attempt", payload.get("retries"))
    if isinstance(told, Number):
        return int(told) if told.isdecimal() and len(told) < 10 else 0
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 0


def rank_of(event: Event) -> int:
    """Return the rank of an event within its attempt."""
    state = KIND_STATE.get(event.kind)
    return _NO_RANK if state is None else RANK[state]


def in_order(events: Iterable[Event]) -> list[Event]:
    """Return events by attempt, then rank, then time: clocks of different hosts decide last."""
    return sorted(events, key=lambda event: (attempt_of(event), rank_of(event), event.occurred_at, event.id))


def attempts(events: Sequence[Event]) -> list[Attempt]:
    """Return the attempts of a task, the first first."""
    found: dict[int, Attempt] = {}
    for event in in_order(events):
        state = KIND_STATE.get(event.kind)
        if state is None:
            continue
        attempt = found.setdefault(attempt_of(event), Attempt(attempt_of(event)))
        attempt.state = state
        if event.worker and event.worker not in attempt.workers and state is not TaskState.PENDING:
            attempt.workers.append(event.worker)
        if state is TaskState.STARTED:
            attempt.starts.append(event.occurred_at)
        if state in TERMINAL_STATES or state is TaskState.RETRY:
            attempt.ended_at = event.occurred_at
            attempt.error = _error(event) or attempt.error
    return [found[number] for number in sorted(found)]


def _payload(event: Event) -> dict[str, Any]:
    """Return the data of an event; a number in it may be longer than Python's own JSON reader bears."""
    try:
        payload = jsontree.read(event.payload)
    except (ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _error(event: Event) -> str:
    payload = _payload(event)
    parts = [payload.get("exception"), payload.get("exception_message") or payload.get("reason")]
    return ": ".join(str(part) for part in parts if part)[:300]
