"""What happens before the server listens: migrate, first-boot rows, the lines that tell a person what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from brain import bootstrap, partitions
from z4j_project.self_agent import start_self_agent

_MIGRATION_LOCK = 7_461_501


def migrate() -> bool:
    """Apply migrations that are missing; tell whether there were any. Two brains that start at once take turns."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        try:
            executor = MigrationExecutor(connection)
            if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
                return False
            call_command("migrate", verbosity=0, interactive=False)
            return True
        finally:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATION_LOCK])


def prepare(base_url: str, *, say: Callable[[str], None] | None = None) -> Callable[[], None]:
    """Make the database ready and say what a person needs to know; return what to call once the server listens.

    ``base_url`` is the address people use, ``say`` takes one line (standard error when None).
    """
    config = settings.Z4J_CONFIG
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if migrate():
        say("z4j: database is up to date")
    partitions.create_ahead()
    bootstrap.ensure_projects()
    if bootstrap.ensure_administrator(config.bootstrap_email, config.bootstrap_password):
        say(f"z4j: administrator {config.bootstrap_email} created")
    token = bootstrap.mint_setup_token()
    if token is not None:
        say(f"z4j: first start. Create the administrator within 15 minutes at {base_url}/setup/{token}")
    self_token = bootstrap.ensure_self_agent()
    if not config.self_agent:
        return lambda: None
    return lambda: start_self_agent(base_url, self_token)
