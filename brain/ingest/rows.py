"""Between facts and task rows: which column holds what, in which order both databases read and write them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from brain.projection import Facts

#: The longest a task can have waited to be told of, as far as lists go.
_OLDEST = timedelta(days=31)
#: (project, engine, task id): what names a task. A project is the 32 hexadecimal digits of its id.
TaskKey = tuple[str, str, str]

KEY_COLUMNS = ("project_id", "engine", "task_id")
#: Columns a task's facts are read from, in the order of :func:`facts_of`.
FACT_COLUMNS = (
    "attempt", "told_rank", "name", "queue", "priority", "replay_quality", "args", "kwargs", "replay_reason",
    "root_task_id", "parent_task_id", "group_id", "retry_of", "published_at", "retries",
    "queued_at", "received_at", "eta", "started_at", "last_started_at", "finished_at", "worker", "told_run_ms",
    "result", "traceback", "exception_message", "exception",
)  # fmt: skip
#: Columns that follow from the facts.
DERIVED_COLUMNS = ("state", "run_ms", "wait_ms", "executed_twice", "replayable")
TASK_COLUMNS = (*KEY_COLUMNS, "created_at", "updated_at", "revision", *FACT_COLUMNS, *DERIVED_COLUMNS)
EVENT_COLUMNS = (
    "id", "project_id", "agent_id", "engine", "kind", "task_id", "name", "queue", "worker",
    "occurred_at", "received_at", "seq", "flags", "payload",
)  # fmt: skip
METRIC_KEY = ("project_id", "minute", "measure", "engine", "queue", "name", "bucket")


def facts_of(row: tuple[Any, ...]) -> Facts:
    """Return the facts a row holds; ``row`` has the values of :data:`FACT_COLUMNS`."""
    (
        attempt, rank, name, queue, priority, quality, args, kwargs, reason,
        root, parent, group, retry_of, published, retries,
        queued, received, eta, started, last_started, finished, worker, told_run,
        result, traceback, message, exception,
    ) = row  # fmt: skip
    return Facts(
        attempt, rank, name, queue, priority, (quality, args, kwargs, reason), root, parent, group, retry_of,
        published, retries, queued, received, eta, started, last_started, finished, worker, told_run,
        result, (traceback, message, exception),
    )  # fmt: skip


def task_row(key: TaskKey, facts: Facts, now: datetime, revision: int) -> tuple[Any, ...]:
    """Return the row of a task in the order of :data:`TASK_COLUMNS`.

    ``created_at`` only counts for a new one: when it first happened, as far as is known then. A time that is later than
    now, or so long ago that a clock must be wrong, is now.
    """
    first_at = facts.first_at
    created_at = first_at if first_at is not None and now - _OLDEST <= first_at <= now else now
    quality, args, kwargs, reason = facts.call
    traceback, message, exception = facts.error
    return (
        *key, created_at, now, revision,
        facts.attempt, facts.rank, facts.name, facts.queue, facts.priority, quality, args, kwargs, reason,
        facts.root_task_id, facts.parent_task_id, facts.group_id, facts.retry_of, facts.published_at, facts.retries,
        facts.queued_at, facts.received_at, facts.eta, facts.started_at, facts.last_started_at, facts.finished_at,
        facts.worker, facts.told_run_ms, facts.result, traceback, message, exception,
        facts.state.value, facts.run_ms, facts.wait_ms, facts.executed_twice,
        None if quality == 0 and not reason else quality == 2,
    )  # fmt: skip
