"""The fold: what a task is, as an order-free join of its events. Pure; knows no clock and no database.

:func:`absorb` adds what one event tells to the facts of a task, :func:`join` merges two sets of facts. ``join`` is
commutative, associative and idempotent, and to absorb an event is to join what it tells alone, so any order, any
repetition and any batching of the same events gives the same row. Two layers make that true: facts of the whole task
are merged value by value, and facts of the attempt are those of the greatest attempt number only.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Protocol

from z4j_core.events import is_placeholder

from brain.histogram import bucket_of
from brain.states import KIND_STATE, RANK, TERMINAL_STATES, TaskState

_STATES = tuple(TaskState)
#: Two tellings of one start differ by milliseconds; two starts of one attempt by more than this.
SAME_START = timedelta(seconds=2)
#: Nothing is known of the arguments; see :class:`Facts`.
NO_CALL = (0, "", "", "")
_NO_ERROR = ("", "", "")


@dataclasses.dataclass(slots=True)
class Facts:
    """What is known of one task.

    ``call`` is (quality, arguments as JSON text, keyword arguments as JSON text, why it cannot be replayed), with
    quality 0 for nothing captured, 1 for captured but not good for a replay, 2 for replayable. ``error`` is
    (traceback, message, exception class). Times are aware datetimes, durations milliseconds.
    """

    attempt: int = 0
    rank: int = -1
    # Facts of the whole task.
    name: str = ""
    queue: str = ""
    priority: int | None = None
    call: tuple[int, str, str, str] = NO_CALL
    root_task_id: str = ""
    parent_task_id: str = ""
    group_id: str = ""
    retry_of: str = ""
    published_at: datetime | None = None
    retries: int = 0
    # Facts of the attempt.
    queued_at: datetime | None = None
    received_at: datetime | None = None
    eta: datetime | None = None
    started_at: datetime | None = None
    last_started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str = ""
    told_run_ms: int | None = None
    result: str = ""
    error: tuple[str, str, str] = _NO_ERROR

    @property
    def state(self) -> TaskState:
        """The state the greatest rank of the latest attempt stands for; waiting for another attempt is ``retry``."""
        state = _STATES[max(self.rank, 0)]
        waiting = state is TaskState.PENDING or state is TaskState.RECEIVED
        return TaskState.RETRY if self.attempt > 0 and waiting else state

    @property
    def first_at(self) -> datetime | None:
        """The earliest moment that is known of the task."""
        moments = (self.published_at, self.queued_at, self.received_at, self.started_at, self.finished_at)
        return min((moment for moment in moments if moment is not None), default=None)

    @property
    def executed_twice(self) -> bool:
        """Whether one attempt was started more than once: the engine delivered the message again."""
        if self.started_at is None or self.last_started_at is None:
            return False
        return self.last_started_at - self.started_at > SAME_START

    @property
    def run_ms(self) -> int | None:
        """Run time of the latest attempt: as told by the engine, else from start to end."""
        if self.told_run_ms is not None:
            return self.told_run_ms
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0, _milliseconds(self.finished_at - self.started_at))

    @property
    def wait_ms(self) -> int | None:
        """Time from when the latest attempt could run (sent, or its ETA if later) to its start."""
        ready = self.queued_at or self.received_at
        if ready is None or self.started_at is None:
            return None
        if self.eta is not None and self.eta > ready:
            ready = self.eta
        return max(0, _milliseconds(self.started_at - ready))


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


_values = attrgetter(*(field.name for field in dataclasses.fields(Facts)))
_TEXTS = ("queue", "root_task_id", "parent_task_id", "group_id", "retry_of")


class Telling(Protocol):
    """What an event's data say, as :class:`brain.ingest.told.Told` has it; None for what they do not say."""

    task_name: str | None
    queue: str | None
    worker: str | None
    priority: int | None
    root_task_id: str | None
    parent_task_id: str | None
    group_id: str | None
    retry_of: str | None

    @property
    def number(self) -> int:
        """The attempt."""

    @property
    def ready_at(self) -> datetime | None:
        """The ETA."""

    @property
    def run_ms(self) -> int | None:
        """The run time."""

    @property
    def call(self) -> tuple[int, str, str, str]:
        """Arguments, and whether they are good for a replay."""

    @property
    def output(self) -> str:
        """The result."""

    @property
    def error(self) -> tuple[str, str, str]:
        """Traceback, message, exception class."""


def of_event(kind: str, occurred_at: datetime, told: Telling) -> Facts:
    """Return the facts one event tells."""
    facts = Facts()
    absorb(facts, kind, occurred_at, told)
    return facts


def absorb(facts: Facts, kind: str, occurred_at: datetime, told: Telling) -> None:
    """Add what one event tells, in place: the same as ``join(facts, of_event(…))`` without making either."""
    state, attempt = KIND_STATE[kind], told.number
    _absorb_task(facts, told)
    _absorb_family(facts, told)
    if state is TaskState.PENDING:
        facts.published_at = _earliest(facts.published_at, occurred_at)
    retries = attempt + 1 if state is TaskState.RETRY else attempt
    facts.retries = max(facts.retries, retries)
    if attempt > facts.attempt:
        _begin_attempt(facts, attempt)
    if attempt == facts.attempt:
        _absorb_attempt(facts, state, occurred_at, told)


def _absorb_task(facts: Facts, told: Telling) -> None:
    name, queue, call = told.task_name, told.queue, told.call
    if name and name != facts.name:
        facts.name = _better_name(facts.name, name)
    if queue and queue != facts.queue:
        facts.queue = _fuller(facts.queue, queue)
    if call is not NO_CALL and call > facts.call:
        facts.call = call
    if told.priority is not None:
        facts.priority = _greatest(facts.priority, told.priority)


def _absorb_family(facts: Facts, told: Telling) -> None:
    root, parent, group, retry_of = told.root_task_id, told.parent_task_id, told.group_id, told.retry_of
    if root and root != facts.root_task_id:
        facts.root_task_id = _fuller(facts.root_task_id, root)
    if parent:
        facts.parent_task_id = _fuller(facts.parent_task_id, parent)
    if group:
        facts.group_id = _fuller(facts.group_id, group)
    if retry_of:
        facts.retry_of = _fuller(facts.retry_of, retry_of)


def _begin_attempt(facts: Facts, attempt: int) -> None:
    """Forget the facts of an earlier attempt."""
    facts.attempt, facts.rank, facts.worker, facts.result = attempt, -1, "", ""
    facts.queued_at = facts.received_at = facts.eta = None
    facts.started_at = facts.last_started_at = facts.finished_at = facts.told_run_ms = None
    facts.error = _NO_ERROR


def _absorb_attempt(facts: Facts, state: TaskState, occurred_at: datetime, told: Telling) -> None:
    worker, eta = told.worker, told.ready_at
    if worker and worker != facts.worker:
        facts.worker = _fuller(facts.worker, worker)
    if eta is not None:
        facts.eta = _greatest(facts.eta, eta)
    rank = RANK[state]
    facts.rank = max(facts.rank, rank)
    if state is TaskState.PENDING:
        facts.queued_at = _earliest(facts.queued_at, occurred_at)
    elif state is TaskState.RECEIVED:
        facts.received_at = _earliest(facts.received_at, occurred_at)
    elif state is TaskState.STARTED:
        facts.started_at = _earliest(facts.started_at, occurred_at)
        facts.last_started_at = _greatest(facts.last_started_at, occurred_at)
    else:
        _absorb_end(facts, state, occurred_at, told)


def _absorb_end(facts: Facts, state: TaskState, occurred_at: datetime, told: Telling) -> None:
    error = told.error
    if error != facts.error:
        facts.error = max(facts.error, error, key=_error_key)
    if state is TaskState.RETRY:
        return
    facts.finished_at = _greatest(facts.finished_at, occurred_at)
    facts.told_run_ms = _greatest(facts.told_run_ms, told.run_ms)
    output = told.output
    if output != facts.result:
        facts.result = _fuller(facts.result, output)


def join(one: Facts, other: Facts) -> Facts:
    """Return the facts both tell, as a new value."""
    high, low = (one, other) if one.attempt >= other.attempt else (other, one)
    joined = Facts(*_values(high))
    _join_task(joined, low)
    if high.attempt == low.attempt:
        _join_attempt(joined, low)
    return joined


def _join_task(into: Facts, other: Facts) -> None:
    into.name = _better_name(into.name, other.name)
    for field in _TEXTS:
        mine, theirs = getattr(into, field), getattr(other, field)
        if theirs and theirs != mine:
            setattr(into, field, _fuller(mine, theirs))
    into.call = max(into.call, other.call)
    into.priority = _greatest(into.priority, other.priority)
    into.published_at = _earliest(into.published_at, other.published_at)
    into.retries = max(into.retries, other.retries)


def _join_attempt(into: Facts, other: Facts) -> None:
    into.rank = max(into.rank, other.rank)
    into.queued_at = _earliest(into.queued_at, other.queued_at)
    into.received_at = _earliest(into.received_at, other.received_at)
    into.eta = _greatest(into.eta, other.eta)
    into.started_at = _earliest(into.started_at, other.started_at)
    into.last_started_at = _greatest(into.last_started_at, other.last_started_at)
    into.finished_at = _greatest(into.finished_at, other.finished_at)
    into.worker = _fuller(into.worker, other.worker)
    into.told_run_ms = _greatest(into.told_run_ms, other.told_run_ms)
    into.result = _fuller(into.result, other.result)
    if into.error != other.error:
        into.error = max(into.error, other.error, key=_error_key)


def _better_name(one: str, other: str) -> str:
    if not one or one == other:
        return other
    return max(one, other, key=lambda name: (not is_placeholder(name), len(name), name))


def _fuller(one: str, other: str) -> str:
    if not one or one == other:
        return other
    return max(one, other, key=lambda text: (len(text), text))


def _error_key(error: tuple[str, str, str]) -> tuple[Any, ...]:
    return (*(len(part) for part in error), *error)


def _earliest(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else min(one, other)


def _greatest(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else max(one, other)


MetricKey = tuple[datetime, str, str, str, int]
_END_MEASURE = {
    TaskState.SUCCEEDED: "succeeded",
    TaskState.FAILED: "failed",
    TaskState.REVOKED: "revoked",
    TaskState.REJECTED: "rejected",
}


def contributions(facts: Facts) -> dict[MetricKey, int]:
    """Return what a task adds to the counters: (minute, measure, queue, name, bucket) -> count.

    Counters are sums of this over all tasks; a change of a task moves them by the difference, so what does not
    change the task cannot move a counter.
    """
    queue, name, state = facts.queue, facts.name, facts.state
    counts: dict[MetricKey, int] = {}
    if facts.published_at is not None:
        counts[_minute(facts.published_at), "published", queue, name, 0] = 1
    if facts.started_at is not None:
        started, wait = _minute(facts.started_at), facts.wait_ms
        counts[started, "started", queue, name, 0] = 1
        if wait is not None:
            counts[started, "wait", queue, name, bucket_of(wait)] = 1
    if facts.finished_at is not None and state in TERMINAL_STATES:
        finished, run = _minute(facts.finished_at), facts.run_ms
        counts[finished, _END_MEASURE[state], queue, name, 0] = 1
        if run is not None and facts.started_at is not None:
            counts[finished, "run", queue, name, bucket_of(run)] = 1
    return counts


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def difference(old: Facts | None, new: Facts, moment: datetime) -> dict[MetricKey, int]:
    """Return by how much the counters move when a task goes from ``old`` to ``new``.

    Retries are counted in the minute of ``moment``, when they became known: an attempt that is over leaves no time.
    """
    moved = contributions(new)
    retries = new.retries
    if old is not None:
        retries -= old.retries
        for key, value in contributions(old).items():
            moved[key] = moved.get(key, 0) - value
        moved = {key: value for key, value in moved.items() if value}
    if retries:
        moved[_minute(moment), "retried", new.queue, new.name, 0] = retries
    return moved
