"""``z4j serve``: the brain, ready for use."""

from __future__ import annotations

import socket
from argparse import ArgumentParser
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

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
        self._check_port(host, port)
        started = boot.prepare(base_url)

        def on_ready() -> None:
            self._say(f"serving on {host}:{port}, accepting Host headers: {', '.join(settings.ALLOWED_HOSTS)}")
            self._say(f"open {base_url}/")
            started()

        from z4j_project.asgi import application  # noqa: PLC0415 - after the database is ready

        endpoints = build_endpoint_description_strings(host=host, port=port)
        server = Server(application, endpoints=endpoints, on_ready=on_ready)
        server.run()
        if not server.listening_addresses:
            raise CommandError(f"Cannot listen on {host}:{port}.")

    def _check_port(self, host: str, port: int) -> None:
        """Try the address before anything is changed or promised."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise CommandError(
                f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port or --host, or stop "
                "the process that uses it."
            ) from error

    def _say(self, line: str) -> None:
        self.stderr.write(f"z4j: {line}")
        self.stderr.flush()
