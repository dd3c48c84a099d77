"""Decides in which processes of a Django project the agent runs, and starts it there.

Loading the application is no sign of serving: a server may load it before it forks, and every management command
loads it. So the hooks are installed first, and the thread starts with the first request, the first published task,
when a Celery worker is ready, or at once in servers that are known not to fork.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.core.signals import request_started
from z4j_bare import AgentRuntime, RuntimeState, install_agent
from z4j_bare.config import examine
from z4j_core.adapters import Adapter, EngineAdapter, SchedulerAdapter
from z4j_core.discovery import ENGINES, SCHEDULERS, discover
from z4j_core.safety import logger, safe_boundary

from z4j_django.framework import DjangoFrameworkAdapter, configured

FLAG = "--with-z4j"

_NEVER_FORK = frozenset({"daphne", "uvicorn", "hypercorn"})
_SERVING_COMMANDS = frozenset({"runserver", "runserver_plus"})
_MANAGEMENT = frozenset({"manage.py", "django-admin", "django-admin.py"})

_current: list[AgentRuntime] = []


def start_agent(
    *,
    engines: Sequence[EngineAdapter] | None = None,
    schedulers: Sequence[SchedulerAdapter] | None = None,
    **overrides: Any,
) -> AgentRuntime:
    """Start the agent in this process now and return its runtime.

    ``engines`` and ``schedulers`` are discovered when not given (an empty list means none); ``overrides`` are the
    options of :func:`z4j_bare.install_agent` and win over the environment and the ``Z4J`` setting. Without any
    argument a runtime that is already installed is started and returned.

    Raises :class:`~z4j_core.errors.ConfigError` when the configuration is not valid.
    """
    if not overrides and engines is None and schedulers is None and _current:
        runtime = _current[-1]
        runtime.start()
    else:
        # Who starts it by hand wants to know why it does not start.
        runtime = _install(engines, schedulers, {"strict_mode": True, **overrides})
    runtime.ensure_running()
    return runtime


def autostart() -> None:
    """Install the agent if this process should have one. Never raises, unless ``strict_mode`` asks for it."""
    options = configured()
    if not options or not wanted(sys.argv):
        return
    config, problems = examine({}, options)
    if problems.unused and not config.strict_mode:
        logger.info("[z4j] Z4J has neither brain_url nor token: no agent in this process")
        return
    runtime = _install(None, None, {})
    if runtime.state is RuntimeState.DISABLED or not runtime.config.autostart:
        return
    request_started.connect(_on_request, dispatch_uid="z4j-request", weak=False)
    if FLAG in sys.argv:
        runtime.ensure_running("other")
    elif serves_at_once(sys.argv):
        runtime.ensure_running("web")


def wanted(argv: Sequence[str]) -> bool:
    """Tell whether a process started with ``argv`` should have an agent at all."""
    if getattr(settings, "TESTING", False) or "_pytest.config" in sys.modules:
        return False
    command = management_command(argv)
    if command is None or FLAG in argv:
        return True
    # The reloader's parent only watches files; its child, marked by Django, serves.
    return command in _SERVING_COMMANDS and ("--noreload" in argv or os.environ.get("RUN_MAIN") == "true")


def serves_at_once(argv: Sequence[str]) -> bool:
    """Tell whether this process serves requests itself, without forking first."""
    return management_command(argv) in _SERVING_COMMANDS or _program(argv) in _NEVER_FORK


def management_command(argv: Sequence[str]) -> str | None:
    """Return the management command of ``argv``, empty when it names none, ``None`` when it is no such process."""
    path = argv[0] if argv else ""
    if _program(argv) not in _MANAGEMENT and not path.endswith(os.path.join("django", "__main__.py")):
        return None
    return next((word for word in argv[1:] if not word.startswith("-")), "")


def accept_flag() -> None:
    """Make every management command accept ``--with-z4j``; patches nothing unless the flag was given."""
    if FLAG not in sys.argv or management_command(sys.argv) is None:
        return
    original = BaseCommand.create_parser

    def create_parser(self: BaseCommand, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = original(self, prog_name, subcommand, **kwargs)
        parser.add_argument(FLAG, action=_Accepted, nargs=0, dest=argparse.SUPPRESS, default=argparse.SUPPRESS)
        return parser

    BaseCommand.create_parser = create_parser  # type: ignore[method-assign]


class _Accepted(argparse.Action):
    """Takes the flag and leaves no trace in the options, so that a command sees nothing new."""

    def __call__(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def _program(argv: Sequence[str]) -> str:
    path = argv[0] if argv else ""
    name = os.path.basename(path)
    # "python -m daphne" shows as …/daphne/__main__.py.
    return os.path.basename(os.path.dirname(path)) if name == "__main__.py" else name.removesuffix(".exe")


def _install(
    engines: Sequence[EngineAdapter] | None, schedulers: Sequence[SchedulerAdapter] | None, overrides: dict[str, Any]
) -> AgentRuntime:
    if engines is None:
        engines = [adapter for adapter in _discovered(ENGINES) if isinstance(adapter, EngineAdapter)]
    if schedulers is None:
        schedulers = [adapter for adapter in _discovered(SCHEDULERS) if isinstance(adapter, SchedulerAdapter)]
    framework = DjangoFrameworkAdapter()
    runtime = install_agent(engines=engines, schedulers=schedulers, framework=framework, **overrides)
    if runtime.state is not RuntimeState.DISABLED:
        _current.append(runtime)
    return runtime


def _discovered(group: str) -> list[Adapter]:
    adapters, reasons = discover(group)
    for reason in reasons:
        logger.info("[z4j] %s", reason)
    return adapters


def _on_request(**_: Any) -> None:
    with safe_boundary("django.request"):
        if _current:
            _current[-1].ensure_running("web")
