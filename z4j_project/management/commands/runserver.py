"""``manage.py runserver``: Daphne's development server with our start and end."""

from __future__ import annotations

from functools import partial
from typing import Any

from daphne.management.commands.runserver import Command as DaphneCommand

from z4j_project import boot
from z4j_project.server import Server


class Command(DaphneCommand):
    """As ``z4j serve``, with Django's reloader."""

    default_port = "7700"

    def check_migrations(self) -> None:
        """Instead of a warning: apply what is missing, and say where to go."""
        host = f"[{self.addr}]" if self._raw_ipv6 else self.addr
        on_ready = boot.prepare(f"http://{host}:{self.port}", say=self.stdout.write)
        self.server_cls = partial(Server, on_ready=on_ready)

    def get_application(self, options: dict[str, Any]) -> Any:
        """Serve static files as in production, through WhiteNoise."""
        return super().get_application({**options, "use_static_handler": False})
