"""The adapter contract: what an engine, a scheduler or a framework gives to the runtime.

Public methods are templates that hold what all adapters share: capability check, validation, safe boundary, result
shape. A subclass overrides the underscored hooks; what it overrides is what it can do.
"""

from __future__ import annotations

import abc
import os
import platform
import socket
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self

from z4j_core.actions import ACTIONS, Command, CommandResult
from z4j_core.errors import EngineUnavailable, Z4JError
from z4j_core.events import TaskEvent
from z4j_core.safety import safe_boundary


class Sink(Protocol):
    """Where an adapter's events go. All methods are safe from any thread, never block long and never raise."""

    def record_event(self, event: TaskEvent) -> None:
        """Take over one event; it is delivered later, from another thread."""

    def record_loss(self, count: int, reason: str) -> None:
        """Count events that an adapter saw and could not hand over; ``reason`` is shown with the number."""

    def ensure_running(self, role: str | None = None) -> None:
        """Start the background thread of this process now, as a ``task``, ``beat``, ``web`` or ``other`` process."""

    def drain(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds until everything recorded is acknowledged; tell whether it is."""


class Adapter(abc.ABC):
    """What engines and schedulers share."""

    #: Name on the wire: "celery", "rq", "celery-beat" and so on.
    name: ClassVar[str]
    #: True when the engine forks after the adapter is connected: nothing may be started before it says so.
    starts_late: ClassVar[bool] = False

    @classmethod
    def discover(cls) -> Self:
        """Return an adapter for the engine as this process has configured it.

        Raises :class:`EngineUnavailable` with the reason when there is none.
        """
        raise EngineUnavailable(f"{cls.name} cannot be discovered, pass its adapter explicitly")

    @classmethod
    def from_options(cls, **options: str) -> Self:
        """Return an adapter from the texts of the command line (``--<engine>-<option> value``).

        Raises :class:`~z4j_core.errors.ConfigError` for options it does not know or cannot use.
        """
        return cls.discover()

    @abc.abstractmethod
    def connect(self, sink: Sink) -> None:
        """Install the hooks; events go to ``sink``. A second call changes nothing. Must start nothing."""

    @abc.abstractmethod
    def disconnect(self) -> None:
        """Remove the hooks. A second call changes nothing."""

    def capabilities(self) -> list[str]:
        """Return the names of the actions this adapter can perform, sorted."""
        return sorted(name for name in ACTIONS if self._hook(name) is not None)

    def limits(self) -> list[str]:
        """Return in sentences what the engine's settings hide from the agent or forbid it."""
        return []

    def health(self) -> dict[str, str]:
        """Return the engine's state under the wire's names: ``<engine>.broker_type`` and so on. May block."""
        notes = self.limits()
        return {f"{self.name}.notes": " ".join(notes)} if notes else {}

    def knows(self, kind: str, name: str) -> bool:
        """Tell whether the engine has a ``task``, ``queue``, ``worker`` or ``schedule`` of this name. May block.

        Policies rest on it, so an adapter that cannot tell says no. A task that runs other tasks which its arguments
        name does not count.
        """
        return False

    def complete(self, command: Command) -> Command:
        """Return ``command`` with what it left out and the engine knows of its target. May block."""
        return command

    def perform(self, command: Command, refuses: Callable[[Command], str | None] | None = None) -> CommandResult:
        """Do what ``command`` asks and say what came of it. Never raises an :class:`Exception`; may block.

        ``refuses`` is asked last, of the complete command, and its reason is the result then.
        """
        hook = self._hook(command.action)
        action = ACTIONS.get(command.action)
        if hook is None or action is None:
            return CommandResult(status="failed", error=f"{self.name} cannot perform {command.action!r}")
        try:
            action.validate(command.parameters)
        except Z4JError as error:
            return CommandResult(status="failed", error=str(error))
        with safe_boundary(f"{self.name}.{command.action}") as boundary:
            try:
                command = self.complete(command)
                if refuses is not None and (reason := refuses(command)) is not None:
                    return CommandResult(status="failed", result={"refused": True}, error=reason)
                outcome = hook(command)
            except Z4JError as error:
                return CommandResult(status="failed", error=str(error))
            return outcome if isinstance(outcome, CommandResult) else CommandResult(status="success", result=outcome)
        return CommandResult(status="failed", error=_text(boundary.error))

    def _hook(self, action: str) -> Any:
        method = "_" + action.replace(".", "_")
        own = getattr(type(self), method, None)
        return None if own is None or own is getattr(Adapter, method, None) else getattr(self, method)

    def _retry_task(self, command: Command) -> dict[str, Any] | CommandResult:
        raise NotImplementedError

    def _cancel_task(self, command: Command) -> dict[str, Any] | CommandResult:
        raise NotImplementedError


class EngineAdapter(Adapter):
    """Base of the task engines' adapters.

    A hook ``_<action>(command)`` returns the result's fields (a success) or a :class:`CommandResult`, and raises
    :class:`~z4j_core.errors.ActionFailed` or :class:`~z4j_core.errors.ActionRefused` otherwise.
    """


class SchedulerAdapter(Adapter):
    """Base of the schedulers' adapters; its hooks are those of the ``schedule.`` actions."""


class FrameworkAdapter:
    """What the host's framework tells about the process. The base class is right for a process without one."""

    name: ClassVar[str] = "bare"
    #: True when the host may fork after the agent is installed: nothing may be started before it says so.
    starts_late: ClassVar[bool] = False

    def role(self) -> str:
        """Return the role of this process: ``web``, ``task``, ``scheduler``, ``beat`` or ``other``."""
        return "other"

    def settings(self) -> dict[str, Any]:
        """Return what the framework's own settings say, by the names of the runtime's options."""
        return {}

    def default_agent_name(self) -> str:
        """Return the name of an agent that was given none."""
        return f"{os.environ.get('HOSTNAME') or socket.gethostname()}-{os.getpid()}"

    def host(self) -> dict[str, Any]:
        """Return facts about the host, for the handshake."""
        return {
            "hostname": socket.gethostname(),
            "python": platform.python_version(),
            "platform": sys.platform,
        }


def _text(error: Exception | None) -> str:
    if error is None:
        return "the adapter failed"
    return f"{type(error).__name__}: {error}"[:1000]
