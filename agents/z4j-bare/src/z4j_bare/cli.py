"""The command line: run an agent as a process of its own."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence

from z4j_core.adapters import EngineAdapter, SchedulerAdapter
from z4j_core.discovery import ENGINES, SCHEDULERS, load
from z4j_core.errors import Z4JError

from z4j_bare.install import install_agent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 after SIGTERM or Ctrl-C, 1 for a wrong configuration."""
    arguments, rest = _parser().parse_known_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        options = _engine_options(rest, arguments.engine + arguments.scheduler)
        engines = [load(name, ENGINES).from_options(**options.get(name, {})) for name in arguments.engine]
        schedulers = [load(name, SCHEDULERS).from_options(**options.get(name, {})) for name in arguments.scheduler]
        runtime = install_agent(
            engines=[engine for engine in engines if isinstance(engine, EngineAdapter)],
            schedulers=[scheduler for scheduler in schedulers if isinstance(scheduler, SchedulerAdapter)],
            brain_url=arguments.brain_url,
            token=arguments.token,
            hmac_secret=arguments.hmac_secret,
            project_id=arguments.project_id,
            agent_name=arguments.agent_name,
            environment=arguments.environment,
            dev_mode=arguments.dev_mode or None,
            strict_mode=True,  # this process is nothing but the agent: without one it must not look alive
        )
    except Z4JError as error:
        print(f"z4j_bare: {error}", file=sys.stderr)
        return 1
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    runtime.ensure_running("other")
    stopping.wait()
    runtime.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m z4j_bare", description="The z4j agent.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="run an agent beside the application",
        description="Run an agent beside the application. Each option may come from Z4J_<NAME> instead, which keeps "
        "the token out of the process list. --<engine>-<option> VALUE goes to that engine, as in --celery-app.",
        allow_abbrev=False,
    )
    run.add_argument("--brain-url", metavar="URL")
    run.add_argument("--token")
    run.add_argument("--hmac-secret")
    run.add_argument("--project-id")
    run.add_argument("--agent-name")
    run.add_argument("--environment")
    run.add_argument("--dev-mode", action="store_true", help="allow an unencrypted connection to another host")
    run.add_argument("--engine", action="append", default=[], metavar="NAME", help="repeatable: celery, ...")
    run.add_argument("--scheduler", action="append", default=[], metavar="NAME")
    return parser


def _engine_options(rest: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    options: dict[str, dict[str, str]] = {}
    words = [part for word in rest for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for flag, value in zip(words[::2], words[1::2], strict=False):
        owner = next((name for name in names if flag.startswith(f"--{name}-")), None)
        if owner is None:
            break
        options.setdefault(owner, {})[flag.removeprefix(f"--{owner}-").replace("-", "_")] = value
    if sum(2 * len(given) for given in options.values()) != len(words):
        raise Z4JError(f"unknown or incomplete arguments: {' '.join(rest)}")
    return options
