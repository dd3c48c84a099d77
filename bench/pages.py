"""How long the pages take on a database of some size.

``python -m bench.pages [--database sqlite|postgresql] [--tasks N] [--events N] [--keep DIR] [--explain]`` fills a
database with a month of tasks (three events each unless told otherwise), asks for every page with changing parameters
and prints one line a page: its number of queries, milliseconds in the database and on the whole page (p50, p95), and
its slowest query. ``--keep`` leaves the database in a directory and uses it again when it is there already.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import django
from django.core.management import call_command
from django.db import connections

from tests.servers import Postgres


@contextlib.contextmanager
def database(kind: str, directory: Path) -> Iterator[bool]:
    """Point Django at the database in a directory; yield whether it is there already."""
    os.environ["Z4J_HOME"] = str(directory)
    os.environ["DJANGO_SETTINGS_MODULE"] = "z4j_project.settings"
    if kind == "sqlite":
        yield (directory / "full").exists()
        return
    server = Postgres(durable=True)
    server.directory.rmdir()
    server.directory = directory / "postgresql"
    there = server.directory.exists()
    server.directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    if not there:
        server.initialise()
    server.start()
    assert server.process is not None
    try:
        if not there:
            server.create("bench")
        os.environ["Z4J_DATABASE_URL"] = server.url("bench")
        yield (directory / "full").exists()
    finally:
        connections.close_all()
        server.process.send_signal(signal.SIGINT)
        server.process.wait(60)


def run(arguments: argparse.Namespace, directory: Path, full: bool) -> None:
    """Fill the database if it is empty, and measure."""
    django.setup()
    if not full:
        start, events = time.monotonic(), arguments.events or 3 * arguments.tasks
        call_command("migrate", verbosity=0)
        # These modules import models, which there are none of before the set-up.
        importlib.import_module("bench.pagedata").build(arguments.tasks, events)
        (directory / "full").touch()
        print(f"{arguments.tasks:,} tasks, {events:,} events made in {time.monotonic() - start:.0f} s", flush=True)
    call_command("migrate", verbosity=0)
    measure = importlib.import_module("bench.pagetimes").measure
    measure(arguments.repetitions, arguments.explain, arguments.only)


def main() -> None:
    """Make the data and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=0, help="default: three a task")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--only", default="", help="only pages whose name contains this")
    parser.add_argument("--explain", action="store_true", help="print the plan of each page's slowest query")
    arguments = parser.parse_args()
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="z4jpages", dir="/tmp"))
    directory.mkdir(exist_ok=True, parents=True)
    try:
        with database(arguments.database, directory) as full:
            run(arguments, directory, full)
    finally:
        if arguments.keep is None:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
