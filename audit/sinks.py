"""Where checkpoints go outside the database: whoever rewrites the log cannot rewrite these."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from django.conf import settings

from audit.statements import Signed


class Sink(Protocol):
    """Takes signed statements. Raises ``OSError`` when it could not; it is then offered a later one."""

    def take(self, statement: Signed) -> None:
        """Keep a statement; it is safe when this returns."""


class FileSink:
    """A file that lines are appended to and that is synchronised after each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, statement: Signed) -> None:
        """Append a line; a line that a crash left unfinished is ended first."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            unfinished = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
            line = ("\n" if unfinished else "") + statement.line + "\n"
            data = line.encode()
            if file.write(data) != len(data):
                raise OSError(f"{self.path}: the line was not written whole")
            os.fsync(descriptor)


class StdoutSink:
    """One line on standard output, for whatever collects the logs."""

    def take(self, statement: Signed) -> None:
        """Print a line."""
        print(statement.line, file=sys.stdout, flush=True)


def configured() -> Sequence[Sink]:
    """Return the sinks of the configuration."""
    sinks: list[Sink] = []
    if settings.Z4J_CONFIG.audit_anchor_file is not None:
        sinks.append(FileSink(settings.Z4J_CONFIG.audit_anchor_file))
    if settings.Z4J_CONFIG.audit_stdout:
        sinks.append(StdoutSink())
    return sinks
