"""``z4j serve``: the brain, ready for use."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from django.conf import settings
from django.core.management.base import BaseCommand

from z4j_project import boot
from z4j_project.server import Server


class Command(BaseCommand):
    """Migrate, print the address, serve until SIGTERM."""

    help = "Start the brain: migrates on first start, prints the address to open, serves until stopped."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take where to listen and which names to answer to."""
        config = settings.Z4J_CONFIG
        parser.add_argument("--host", default=config.host, help=f"address to listen on (default {config.host})")
        parser.add_argument("--port", type=int, default=config.port, help=f"port to listen on (default {config.port})")
        parser.add_argument(
            "--allowed-host", action="append", default=[], metavar="NAME", help="also answer to this name (repeatable)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve."""
        host, port = options["host"], options["port"]
        settings.ALLOWED_HOSTS += options["allowed_host"]
        self.check(databases=None)
        local = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        base_url = settings.Z4J_CONFIG.public_url or f"http://{local}:{port}"
        on_ready = boot.prepare(base_url)
        self._say(f"serving on {host}:{port}, accepting Host headers: {', '.join(settings.ALLOWED_HOSTS)}")
        self._say(f"open {base_url}/")
        from z4j_project.asgi import application  # noqa: PLC0415 - after the database is ready

        endpoints = build_endpoint_description_strings(host=host, port=port)
        server = Server(application, endpoints=endpoints, on_ready=on_ready)
        server.run()
        if not server.listening_addresses:
            self._say(f"cannot listen on {host}:{port}: is another process using it?")
            sys.exit(1)

    def _say(self, line: str) -> None:
        self.stderr.write(f"z4j: {line}")
        self.stderr.flush()
