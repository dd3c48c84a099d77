"""A page may ask the database for so long and no longer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection

from brain.errors import BrainError

#: Seconds one query of a page may take on PostgreSQL; on SQLite all queries of a page together.
SECONDS = 5.0
#: Instructions of SQLite's virtual machine between two looks at the clock, about a millisecond.
_INSTRUCTIONS = 100_000
_QUERY_CANCELLED = "57014"


class TooSlow(BrainError):
    """The page was given up because the database took too long."""


@contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Give up what the database takes too long for. Raises :class:`TooSlow`."""
    enter, leave = (
        (_enter_postgresql, _leave_postgresql) if connection.vendor == "postgresql" else (_enter_sqlite, _leave_sqlite)
    )
    enter(seconds)
    try:
        yield
    except OperationalError as error:
        if not _is_timeout(error):
            raise
        given = f"The database was given {seconds:g} seconds for this and was not done."
        raise TooSlow(f"{given} Ask for a shorter time, or for less.") from error
    finally:
        leave()


def _is_timeout(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", "") == _QUERY_CANCELLED or str(error) == "interrupted"


def _enter_postgresql(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {round(seconds * 1000)}")


def _leave_postgresql() -> None:
    # In a transaction that has failed nothing can be set, and its end takes the setting back.
    if connection.connection is not None and not connection.connection.closed and not connection.needs_rollback:
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout")


def _enter_sqlite(seconds: float) -> None:
    end = time.monotonic() + seconds
    connection.ensure_connection()
    connection.connection.set_progress_handler(lambda: time.monotonic() > end, _INSTRUCTIONS)


def _leave_sqlite() -> None:
    if connection.connection is not None:
        connection.connection.set_progress_handler(None, 0)
