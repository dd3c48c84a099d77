"""Commands: issue, claim, acknowledge, complete, expire. The only writer of their table.

Every change of state is a conditional update whose row count decides, so two brains, a late result and an expiry can
never both win.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from z4j_core.actions import ACTIONS
from z4j_core.errors import FrameError
from z4j_core.frames import CommandFrame, CommandResultFrame, parse_json
from z4j_core.text import clean_json, clean_text

from audit.record import record
from brain import agents, live
from brain.errors import Conflict, InvalidInput, PermissionDenied
from brain.models import AgentProcess, Command, Project, Task, User
from brain.permissions import require
from brain.states import WAITING_STATES, CommandState, TaskState, may_become

#: How long a command may wait for its agent before it expires.
DELIVERY_DEADLINE = timedelta(seconds=60)
#: How long after its timeout a command without a result is called unknown.
RESULT_GRACE = timedelta(seconds=15)


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """Whether an action can be done to a task now, and if not, why."""

    action: str
    label: str
    confirm: str
    available: bool
    reason: str = ""


def offers(task: Task, permissions: frozenset[str]) -> list[Offer]:
    """Return the task actions as the task page shows them: each available, or not and why."""
    return [
        Offer(action.name, action.label, action.confirm, not reason, reason)
        for action in ACTIONS.values()
        if action.target == "task"
        for reason in [_obstacle(task, action.name, permissions)]
    ]


def _obstacle(task: Task, action: str, permissions: frozenset[str]) -> str:
    if action not in permissions:
        return "Your role does not allow this."
    if reason := _unfit(task, action):
        return reason
    return _taker(task, action)[1]


def _taker(task: Task, action: str) -> tuple[AgentProcess | None, str]:
    """Return a connected process that can do this to a task and may, or None and why there is none."""
    # The arguments, which may be long and may be unreadable, are no concern of a policy.
    named = {"task_name": task.name} | ({"queue": task.queue} if action == "retry_task" and task.queue else {})
    refused = None
    for process in agents.serving(task.project_id, task.engine):
        # What a policy never allows is not announced as a capability, so both are asked.
        reason = agents.refusal(process, action, named)
        if not reason and action in agents.capabilities_of(process, task.engine):
            return process, ""
        refused = refused or ((process, reason) if reason else None)
    if refused is not None:
        return None, f"Refused by the policy of agent {refused[0]}: {refused[1]}."
    return None, f"No connected agent can do this on {task.engine} now."


def _unfit(task: Task, action: str) -> str:
    return _unfit_for_retry(task) if action == "retry_task" else _unfit_for_cancel(task)


def _unfit_for_retry(task: Task) -> str:
    if not task.replayable:
        return f"Cannot be replayed: {task.replay_reason or 'its arguments were not captured'}."
    return "" if task.is_finished else "It has not ended yet."


def _unfit_for_cancel(task: Task) -> str:
    if task.is_finished:
        return "It has ended already."
    return "Cancelled already: workers discard it when its time comes." if _cancelled(task) else ""


def _cancelled(task: Task) -> bool:
    """Tell whether workers have confirmed to discard a task that waits."""
    return (
        task.state in WAITING_STATES
        and Command.objects.filter(
            project_id=task.project_id,
            target_type="task",
            target_id=f"{task.engine}:{task.task_id}",
            action="cancel_task",
            state=CommandState.SUCCEEDED,
        ).exists()
    )


def issue_for_task(project: Project, task: Task, action: str, user: User) -> Command:
    """Ask an agent to do ``action`` to a task: command row and audit entry in one transaction, or nothing.

    Raises :class:`NotFound`, :class:`PermissionDenied` (audited), :class:`InvalidInput` or :class:`Conflict`.
    """
    if action not in ACTIONS or ACTIONS[action].target != "task":
        raise InvalidInput(f"There is no action {action!r} for a task.")
    target_id = f"{task.engine}:{task.task_id}"
    try:
        require(user, project, action)
    except PermissionDenied:
        record(
            chain_id=project.id,
            actor=user.email,
            action=f"task.{action}",
            target=f"task:{target_id}",
            outcome="denied",
        )
        raise
    if reason := _unfit(task, action):
        raise Conflict(reason)
    process, reason = _taker(task, action)
    if process is None:
        raise Conflict(reason)
    parameters = _parameters(task, action)
    ACTIONS[action].validate(parameters)
    with transaction.atomic():
        command = Command.objects.create(
            project=project,
            agent_id=process.agent_id,
            action=action,
            engine=task.engine,
            target_type="task",
            target_id=target_id,
            parameters=parameters,
            issued_by=user,
            issued_by_label=user.email,
            expires_at=timezone.now() + DELIVERY_DEADLINE,
        )
        record(
            chain_id=project.id,
            actor=user.email,
            action=f"task.{action}",
            target=f"task:{command.target_id}",
            detail={"command": str(command.id), "task_name": task.name},
        )
        transaction.on_commit(lambda: live.wake_agent(process.agent_id))
        transaction.on_commit(lambda: live.changed({project.id}))
    return command


def _parameters(task: Task, action: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {"task_id": task.task_id, "engine": task.engine, "task_name": task.name}
    if action == "retry_task":
        try:
            parameters["override_args"] = json.loads(task.args or "[]")
            parameters["override_kwargs"] = json.loads(task.kwargs or "{}")
        except ValueError as error:
            raise Conflict("Cannot be replayed: its arguments cannot be read back exactly.") from error
        if task.queue:
            parameters["queue"] = task.queue
        if task.priority is not None:
            parameters["priority"] = task.priority
    if action == "cancel_task":
        parameters["terminate"] = task.state == TaskState.STARTED
    return parameters


def claim(agent_id: UUID, session_id: str, capabilities: dict[str, frozenset[str]]) -> list[CommandFrame]:
    """Take the pending commands of an agent that this connection can do; each is taken by exactly one connection."""
    now = timezone.now()
    frames = []
    pending = Command.objects.filter(agent_id=agent_id, state=CommandState.PENDING, expires_at__gt=now)
    for command in pending.order_by("created_at")[:50]:
        if command.action not in capabilities.get(command.engine, frozenset()):
            continue
        taken = Command.objects.filter(id=command.id, state=CommandState.PENDING).update(
            state=CommandState.SENT, sent_at=now, session_id=session_id
        )
        if taken:
            frames.append(
                CommandFrame(
                    id=str(command.id),
                    action=command.action,
                    target={"type": command.target_type, "id": command.target_id, "engine": command.engine},
                    parameters=command.parameters,
                    timeout_seconds=command.timeout_seconds,
                    issued_by=command.issued_by_label,
                )
            )
    return frames


def acknowledge(agent_id: UUID, command_id: str) -> None:
    """Note that a command has arrived."""
    identifier = _uuid(command_id)
    if identifier is None:
        return
    rows = Command.objects.filter(id=identifier, agent_id=agent_id, state__in=may_become(CommandState.ACKNOWLEDGED))
    if rows.update(state=CommandState.ACKNOWLEDGED, acknowledged_at=timezone.now()):
        _tell(identifier)


def complete(agent_id: UUID, agent_name: str, frame: CommandResultFrame) -> bool:
    """Note the result of a command, once; False for a result nobody waits for."""
    identifier = _uuid(frame.id)
    if identifier is None:
        return False
    new = CommandState.SUCCEEDED if frame.status == "success" else CommandState.FAILED
    with transaction.atomic():
        rows = Command.objects.filter(id=identifier, agent_id=agent_id, state__in=may_become(new))
        ended = rows.update(
            state=new, finished_at=timezone.now(), result=_storable(frame.result), error=clean_text(frame.error or "")
        )
        if not ended:
            return False
        command = Command.objects.get(id=identifier)
        record(
            chain_id=command.project_id,
            actor=f"agent:{agent_name}",
            action=f"{command.target_type}.{command.action}.result",
            target=f"{command.target_type}:{command.target_id}",
            outcome=new,
            detail={"command": str(command.id), "error": command.error[:500]},
        )
    live.changed({command.project_id})
    return True


def _storable(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a result as the database can hold it: an answer that cannot be kept must not cost the outcome."""
    try:
        return parse_json(json.dumps(clean_json(result), allow_nan=False)) if result is not None else None
    except (FrameError, ValueError, RecursionError):
        return {"note": "the agent's answer could not be stored"}


def expire() -> int:
    """End commands whose time is over: not sent becomes expired, sent without a result becomes unknown."""
    now = timezone.now()
    ended = 0
    for command in Command.objects.filter(state=CommandState.PENDING, expires_at__lte=now):
        ended += _end(command, CommandState.EXPIRED, "No agent took it in time; nothing was done.")
    for command in Command.objects.filter(state__in=[CommandState.SENT, CommandState.ACKNOWLEDGED]):
        limit = (command.sent_at or command.created_at) + timedelta(seconds=command.timeout_seconds) + RESULT_GRACE
        if limit <= now:
            ended += _end(
                command, CommandState.UNKNOWN, "It was sent, but no result came back: it may or may not have happened."
            )
    return ended


def _end(command: Command, new: CommandState, why: str) -> int:
    with transaction.atomic():
        rows = Command.objects.filter(id=command.id, state=command.state)
        if not rows.update(state=new, finished_at=timezone.now(), error=why):
            return 0
        record(
            chain_id=command.project_id,
            actor="system",
            action=f"{command.target_type}.{command.action}.result",
            target=f"{command.target_type}:{command.target_id}",
            outcome=new,
            detail={"command": str(command.id)},
        )
    live.changed({command.project_id})
    return 1


def agents_to_wake() -> list[UUID]:
    """Return the agents for whom commands wait, to cover a wake-up that was lost."""
    waiting = Command.objects.filter(state=CommandState.PENDING, expires_at__gt=timezone.now())
    return [agent for agent in waiting.values_list("agent_id", flat=True).distinct() if agent is not None]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _tell(command_id: UUID) -> None:
    live.changed(set(Command.objects.filter(id=command_id).values_list("project_id", flat=True)))
