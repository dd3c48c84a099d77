"""State tables: which states there are, how they rank, and what may follow what."""

from __future__ import annotations

from enum import StrEnum

from z4j_core.events import EventKind

from brain.errors import Conflict


class TaskState(StrEnum):
    """Where a task stands; drawn in docs/concepts/states.md."""

    PENDING = "pending"
    RECEIVED = "received"
    STARTED = "started"
    RETRY = "retry"
    REVOKED = "revoked"
    FAILED = "failed"
    REJECTED = "rejected"
    SUCCEEDED = "succeeded"


#: Within one attempt the event with the greatest rank tells the state. Several sources tell the same life in any
#: order, so no clock takes part in this.
RANK: dict[TaskState, int] = {state: rank for rank, state in enumerate(TaskState)}

KIND_STATE: dict[str, TaskState] = {
    EventKind.SENT: TaskState.PENDING,
    EventKind.RECEIVED: TaskState.RECEIVED,
    EventKind.STARTED: TaskState.STARTED,
    EventKind.RETRIED: TaskState.RETRY,
    EventKind.REVOKED: TaskState.REVOKED,
    EventKind.FAILED: TaskState.FAILED,
    EventKind.REJECTED: TaskState.REJECTED,
    EventKind.SUCCEEDED: TaskState.SUCCEEDED,
}

WAITING_STATES = frozenset({TaskState.PENDING, TaskState.RECEIVED, TaskState.RETRY})
TERMINAL_STATES = frozenset({TaskState.REVOKED, TaskState.FAILED, TaskState.REJECTED, TaskState.SUCCEEDED})


class CommandState(StrEnum):
    """Where a command stands. ``unknown``: it was sent, no result came, and it must not be sent again."""

    PENDING = "pending"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


#: A late result must be tolerated, so ``unknown`` and ``expired`` after sending may still be resolved.
COMMAND_NEXT: dict[CommandState, frozenset[CommandState]] = {
    CommandState.PENDING: frozenset({CommandState.SENT, CommandState.REFUSED, CommandState.EXPIRED}),
    CommandState.SENT: frozenset(
        {CommandState.ACKNOWLEDGED, CommandState.SUCCEEDED, CommandState.FAILED, CommandState.UNKNOWN}
    ),
    CommandState.ACKNOWLEDGED: frozenset({CommandState.SUCCEEDED, CommandState.FAILED, CommandState.UNKNOWN}),
    CommandState.UNKNOWN: frozenset({CommandState.SUCCEEDED, CommandState.FAILED}),
    CommandState.SUCCEEDED: frozenset(),
    CommandState.FAILED: frozenset(),
    CommandState.REFUSED: frozenset(),
    CommandState.EXPIRED: frozenset(),
}


def may_become(new: CommandState) -> list[str]:
    """Return the command states from which ``new`` may be reached, for a conditional update."""
    return [old.value for old, following in COMMAND_NEXT.items() if new in following]


def advance(old: CommandState, new: CommandState) -> CommandState:
    """Return ``new`` when it may follow ``old``; raise :class:`~brain.errors.Conflict` otherwise."""
    if new not in COMMAND_NEXT[old]:
        raise Conflict(f"a command that is {old} cannot become {new}")
    return new


class AgentState(StrEnum):
    """Whether an agent process is connected."""

    ONLINE = "online"
    OFFLINE = "offline"
