"""The Celery adapter: hooks, health and actions of one Celery app."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

from celery import Celery, _state
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.utils.imports import symbol_by_name
from z4j_core.actions import Command
from z4j_core.adapters import EngineAdapter, Sink
from z4j_core.errors import ConfigError, EngineUnavailable
from z4j_core.safety import register_host_interrupt

from z4j_celery.capture import Capture
from z4j_celery.control import Control, pool_name
from z4j_celery.health import Health

# Raised by the pool's signal handler wherever the task is at that moment, which may be inside one of our hooks.
register_host_interrupt(SoftTimeLimitExceeded, TimeLimitExceeded)

#: The hooks are those of the process, not of an app, so one adapter owns them.
_installed: dict[str, Capture] = {}


class CeleryEngineAdapter(EngineAdapter):
    """Watches and controls Celery.

    ``celery_app`` is the app; without one the current app of the process is used when it is first needed. Signals
    belong to the process: with several apps in one process their tasks are told together.
    """

    name: ClassVar[str] = "celery"
    starts_late: ClassVar[bool] = True

    def __init__(self, celery_app: Celery | None = None) -> None:
        self._given = celery_app
        self._capture: Capture | None = None
        self._control = Control(self._app, self._worker)
        self._health = Health(self._app, self._worker)

    @classmethod
    def discover(cls) -> Self:
        """Return an adapter for the process's Celery app, which may be made later."""
        return cls()

    @classmethod
    def from_options(cls, **options: str) -> Self:
        """Return an adapter for ``--celery-app module:attribute``."""
        path = options.pop("app", None)
        if options or not path:
            raise ConfigError("the celery engine takes --celery-app module:attribute")
        try:
            app = symbol_by_name(path)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"--celery-app {path}: {error}") from error
        if not isinstance(app, Celery):
            raise ConfigError(f"--celery-app {path} is not a Celery app")
        return cls(celery_app=app)

    def connect(self, sink: Sink) -> None:
        """Install the signals and the tap on the event dispatcher."""
        if self._capture is None and self.name not in _installed:
            self._capture = _installed[self.name] = Capture(self.name, sink)
            self._capture.install()

    def disconnect(self) -> None:
        """Remove them."""
        if self._capture is not None:
            self._capture.uninstall()
            _installed.pop(self.name, None)
            self._capture = None

    def limits(self) -> list[str]:
        """Say what this app's settings hide or forbid."""
        notes: list[str] = []
        app = self._known_app()
        capture = self._capture
        if capture is not None and capture.in_worker():
            pool = pool_name(capture.worker)
            if pool in ("solo", "threads"):
                notes.append(f"The {pool} pool cannot stop a running task.")
            if capture.forced_events:
                notes.append("Heartbeat and gossip are off; task events are observed inside the worker all the same.")
            silent = sorted(
                name
                for name, task in dict(app.tasks).items()
                if not task.send_events and not name.startswith("celery.")
            )
            if silent:
                notes.append(f"Not observed while running, because of send_events=False: {', '.join(silent[:10])}.")
        if app is not None and app.conf.task_always_eager:
            notes.append("task_always_eager is on: tasks run where they are called and are not observed.")
        return notes

    def health(self) -> dict[str, str]:
        """Return broker, queues, worker and notes under the wire's names. May take some seconds."""
        if self._known_app() is None:
            return {"celery.notes": "This process has not made its Celery app yet."}
        return self._health.report() | super().health()

    def knows(self, kind: str, name: str) -> bool:
        """Tell whether this app, or a worker that answers, has a task or a queue of this name."""
        return self._control.knows(kind, name)

    def complete(self, command: Command) -> Command:
        """Return a retry with what the result backend has of the task, where the brain sent no arguments."""
        return self._control.complete(command) if command.action == "retry_task" else command

    def _retry_task(self, command: Command) -> dict[str, Any]:
        return self._control.retry(command)

    def _cancel_task(self, command: Command) -> dict[str, Any]:
        return self._control.cancel(command)

    def _known_app(self) -> Any:
        """Return the app, ``None`` when the process has made none: asking Celery would make a default one."""
        worker = self._worker()
        if worker is not None:
            return worker.app
        if self._given is not None:
            return self._given
        return getattr(_state._tls, "current_app", None) or _state.default_app

    def _app(self) -> Any:
        app = self._known_app()
        if app is None:
            raise EngineUnavailable("this process has no Celery app")
        return app

    def _worker(self) -> Any:
        """Return the worker whose main process this is, ``None`` elsewhere."""
        capture = self._capture
        return capture.worker if capture is not None and capture.in_worker() else None

    def __repr__(self) -> str:
        return f"<CeleryEngineAdapter pid={os.getpid()}>"
