"""The console script ``z4j`` and ``manage.py``: one set of commands."""

from __future__ import annotations

import os
import sys

from z4j_core.errors import ConfigError


def main() -> None:
    """Run a management command; a wrong configuration is explained without a traceback."""
    os.umask(0o077)  # what the brain writes is for its own user only
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "z4j_project.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - needs the variable above

    try:
        execute_from_command_line(sys.argv)
    except ConfigError as error:
        print(f"z4j: {error}", file=sys.stderr)
        sys.exit(2)
