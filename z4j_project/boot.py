"""What happens before the server listens: migrate, first-boot rows, the lines that tell a person what to do."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from brain import bootstrap, partitions
from z4j_project.self_agent import start_self_agent

_BOOT_LOCK = 7_461_501


class HomeInUse(CommandError):
    """Another brain uses this home with SQLite."""


def claim_home() -> None:
    """Make sure no other brain serves the same SQLite file: they would not see each other's commands and hints.

    Raises :class:`HomeInUse`. The claim ends with the process.
    """
    if connection.vendor != "sqlite":
        return
    home: Path = settings.Z4J_CONFIG.home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (home / "serve.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise HomeInUse(
            f"another brain is running with {home}. Stop it first, give this one another Z4J_HOME, or run both on "
            "PostgreSQL with Z4J_REDIS_URL."
        ) from None
    _held.append(lock)


_held: list[object] = []


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let brains that start on one PostgreSQL at the same time take turns."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_BOOT_LOCK])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_BOOT_LOCK])


def migrate() -> bool:
    """Apply migrations that are missing; tell whether there were any."""
    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return False
    call_command("migrate", verbosity=0, interactive=False)
    return True


def prepare(base_url: str, *, say: Callable[[str], None] | None = None) -> Callable[[], None]:
    """Make the database ready and say what a person needs to know; return what to call once the server listens.

    ``base_url`` is the address people use, ``say`` takes one line (standard error when None).
    """
    config = settings.Z4J_CONFIG
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    claim_home()
    with _one_at_a_time():
        self_token = _fill(base_url, say)
    if not config.self_agent:
        return lambda: None
    return lambda: start_self_agent(base_url, self_token)


def _fill(base_url: str, say: Callable[[str], None]) -> str:
    """Bring the database to where this version needs it; return the token of the brain's own agent."""
    config = settings.Z4J_CONFIG
    if migrate():
        say("z4j: database is up to date")
    partitions.create_ahead()
    bootstrap.ensure_projects()
    if bootstrap.ensure_administrator(config.bootstrap_email, config.bootstrap_password):
        say(f"z4j: administrator {config.bootstrap_email} created")
    token = bootstrap.mint_setup_token()
    if token is not None:
        say(f"z4j: first start. Create the administrator within 15 minutes at {base_url}/setup/{token}")
    return bootstrap.ensure_self_agent()
