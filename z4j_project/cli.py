"""The console script ``z4j`` and ``manage.py``: one set of commands."""

from __future__ import annotations

import os
import sys

from z4j_core.errors import ConfigError
from z4j_core.versions import package_version

USAGE = """\
usage: z4j COMMAND [options]

  serve            start the brain: migrates, prints the address, serves until stopped
  token            mint a credential for an agent
  createsuperuser  create an administrator
  changepassword   set a password
  partitions       show the day partitions of events, or repair them
  audit            verify, export and sign the audit log
  migrate          apply migrations without serving
  check            check the configuration
  version          print the version

`z4j COMMAND --help` tells the options; `z4j help --commands` lists all of Django's commands too."""


def main() -> None:
    """Run a command; a wrong configuration or an absent database is explained without a traceback."""
    os.umask(0o077)  # what the brain writes is for its own user only
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "z4j_project.settings")
    arguments = sys.argv[1:]
    if arguments in ([], ["help"], ["--help"], ["-h"]):
        print(USAGE)
        return
    if arguments in (["version"], ["--version"]):
        print(package_version("z4j"))
        return
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - needs the variable above
    from django.db.utils import OperationalError  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except ConfigError as error:
        sys.exit(f"z4j: {error}")
    except OperationalError as error:
        sys.exit(f"z4j: the database does not answer: {str(error).strip()}")
