"""The file of an event buffer: its tables, and what can still be read of one that is damaged or was left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from z4j_core.safety import log_once

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (n INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL, size INTEGER NOT NULL,
                                  crc INTEGER NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gap (epoch TEXT, first INTEGER, last INTEGER, reason TEXT, count INTEGER);
CREATE TABLE IF NOT EXISTS command (id TEXT PRIMARY KEY, at REAL NOT NULL, result TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identity (epoch TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS heritage (epoch TEXT PRIMARY KEY) WITHOUT ROWID;
"""
#: What puts an event in, and what gets events out in the same order; the body as bytes, for it may be damaged.
INSERT_EVENT = "INSERT INTO event (body, size, crc, epoch, seq, at) VALUES (?, ?, ?, ?, ?, ?)"
_EVENTS = "SELECT n, CAST(body AS BLOB), size, crc, epoch, seq, at FROM event ORDER BY n"
_COPIED = (
    ("SELECT epoch, first, last, reason, count FROM gap", "INSERT INTO gap VALUES (?, ?, ?, ?, ?)"),
    ("SELECT id, at, result FROM command", "INSERT OR IGNORE INTO command VALUES (?, ?, ?)"),
    ("SELECT epoch FROM heritage", "INSERT OR IGNORE INTO heritage VALUES (?)"),
)

#: (body, size, crc, epoch, seq, at)
EventRow = tuple[str, int, int, str, int, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Legacy:
    """What a dead process left beside its events; ``heritage`` are the epochs of the files it had inherited itself."""

    epoch: str
    gaps: list[tuple[Any, ...]]
    commands: list[tuple[Any, ...]]
    counters: dict[str, int]
    heritage: list[str]


def connect(name: str) -> sqlite3.Connection:
    """Open a file, or ``:memory:``, and make its tables. Raises ``sqlite3.Error``."""
    database = sqlite3.connect(name, timeout=0.1, isolation_level="DEFERRED")
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("PRAGMA journal_size_limit=4194304")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    if name != ":memory:":
        os.chmod(name, 0o600)
    return database


def intact(body: bytes, crc: int) -> str | None:
    """Return the text of an event's body, None when it is not what was written."""
    return body.decode("utf-8") if zlib.crc32(body) == crc else None


def events_of(database: sqlite3.Connection) -> tuple[list[EventRow], int]:
    """Return the events that are as they were written, and how many are not. Raises ``sqlite3.Error``."""
    rows = [row for _, row in _intact_events(database.execute(_EVENTS))]
    (count,) = database.execute("SELECT count(*) FROM event").fetchone()
    return rows, count - len(rows)


def _intact_events(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, EventRow]]:
    for n, body, size, crc, epoch, seq, at in rows:
        text = intact(body, crc)
        if text is not None:
            yield n, (text, size, crc, epoch, seq, at)


def copy_readable(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy what can still be read of a failing database, table by table, into another."""
    with contextlib.suppress(sqlite3.Error):
        for n, row in _intact_events(source.execute(_EVENTS)):
            target.execute(INSERT_EVENT.replace("(body", "(n, body").replace("(?", "(?, ?", 1), (n, *row))
    for select, insert in _COPIED:
        with contextlib.suppress(sqlite3.Error):
            target.executemany(insert, source.execute(select))
    target.commit()


def legacy_of(database: sqlite3.Connection) -> Legacy:
    """Return what a dead process left. Raises ``sqlite3.Error``."""
    identity = database.execute("SELECT epoch FROM identity").fetchone()
    return Legacy(
        epoch=identity[0] if identity else "",
        gaps=database.execute("SELECT epoch, first, last, reason, count FROM gap").fetchall(),
        commands=database.execute("SELECT id, at, result FROM command").fetchall(),
        counters=dict(database.execute("SELECT name, value FROM counter")),
        heritage=[epoch for (epoch,) in database.execute("SELECT epoch FROM heritage")],
    )


def unless_damaged(path: Path, read: Callable[[sqlite3.Connection], T]) -> T | None:
    """Read a left-over file; one that cannot be read is set aside."""
    try:
        with contextlib.closing(connect(str(path))) as database:
            return read(database)
    except sqlite3.DatabaseError as error:
        os.replace(path, path.with_name(f"{path.name}.corrupt"))
        log_once("buffer.adopt", f"the left-over event buffer {path.name} is damaged ({error})")
        return None
