"""Event kinds and the value an engine adapter hands to the runtime."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4


class EventKind(StrEnum):
    """Moments of a task's life, in the words of the wire."""

    SENT = "task.sent"
    RECEIVED = "task.received"
    STARTED = "task.started"
    SUCCEEDED = "task.succeeded"
    FAILED = "task.failed"
    RETRIED = "task.retried"
    REVOKED = "task.revoked"
    REJECTED = "task.rejected"


def is_placeholder(name: str) -> bool:
    """Tell whether a task name is the stand-in some agents send when they did not see the task arrive."""
    return not name or name.startswith("<unknown")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """One moment of one task, as an adapter saw it.

    ``data`` holds what the engine told, under the names of the wire: ``task_name``, ``queue``, ``worker``,
    ``args``, ``kwargs``, ``attempt`` (number of retries before this run, from 0), ``eta`` (ISO 8601),
    ``priority``, ``root_task_id``, ``parent_task_id``, ``group_id``, ``result``, ``runtime_ms``, ``exception``,
    ``exception_message``, ``traceback``, ``reason``, ``replayable`` and ``replay_reason``. Absent means unknown.
    ``occurred_at`` must be aware of its time zone.
    """

    kind: str
    engine: str
    task_id: str
    occurred_at: datetime
    data: dict[str, Any]
    id: str = dataclasses.field(default_factory=lambda: str(uuid4()))

    def wire(self) -> dict[str, Any]:
        """Return the event as an ``event_batch`` carries it (wire protocol, section 2)."""
        return {
            "id": self.id,
            "kind": self.kind,
            "engine": self.engine,
            "task_id": self.task_id,
            "occurred_at": self.occurred_at.isoformat(),
            "data": self.data,
        }
