"""The registry of actions: the one place that says what a person may ask an agent to do.

Buttons, permissions, the agent's dispatcher and the audit log read it; none of them keeps a list of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from z4j_core.errors import FrameError

Role = Literal["viewer", "auditor", "operator", "admin"]
Target = Literal["task", "queue", "worker", "schedule", "agent"]


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an action: its JSON type and whether it must be there."""

    name: str
    types: tuple[type, ...]
    required: bool = False
    max_length: int = 255


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What an action is, whom it is for and what a repetition of it would do.

    ``repeat_safe`` means that doing it twice leaves the same state as doing it once: only then may the brain
    send it again when it does not know whether the first one arrived.
    """

    name: str
    target: Target
    label: str
    confirm: str
    parameters: tuple[Parameter, ...]
    min_role: Role = "operator"
    destructive: bool = False
    repeat_safe: bool = False

    def validate(self, parameters: dict[str, Any]) -> None:
        """Raise :class:`FrameError` when a required parameter is absent or one has the wrong type."""
        for parameter in self.parameters:
            value = parameters.get(parameter.name)
            if value is None:
                if parameter.required:
                    raise FrameError(f"{self.name} needs the parameter {parameter.name!r}")
                continue
            if not isinstance(value, parameter.types) or (isinstance(value, bool) and bool not in parameter.types):
                names = " or ".join(kind.__name__ for kind in parameter.types)
                raise FrameError(f"{self.name}: {parameter.name!r} must be {names}, not {type(value).__name__}")
            if isinstance(value, str) and len(value) > parameter.max_length:
                raise FrameError(f"{self.name}: {parameter.name!r} is longer than {parameter.max_length} characters")


_TASK = (Parameter("task_id", (str,), required=True), Parameter("engine", (str,), required=True))

ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action(
            name="retry_task",
            target="task",
            label="Retry",
            confirm="Run this task again with the arguments it was sent with?",
            parameters=(
                *_TASK,
                Parameter("task_name", (str,)),
                Parameter("queue", (str,)),
                Parameter("override_args", (list,)),
                Parameter("override_kwargs", (dict,)),
                Parameter("eta", (str,)),
                Parameter("priority", (int,)),
            ),
        ),
        Action(
            name="cancel_task",
            target="task",
            label="Cancel",
            confirm="Cancel this task? If it is running, its worker is told to stop it, where its pool can.",
            parameters=(*_TASK, Parameter("terminate", (bool,))),
            destructive=True,
            repeat_safe=True,
        ),
    )
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as the agent's dispatcher and the adapters see it."""

    id: str
    action: str
    target: dict[str, Any]
    parameters: dict[str, Any]
    timeout_seconds: float = 60.0
    issued_by: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What came of a command: ``result`` says what was verified and how, ``error`` why it failed."""

    status: Literal["success", "failed"]
    result: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str | None = None
