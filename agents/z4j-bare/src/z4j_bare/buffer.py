"""The event buffer: an SQLite file per process that holds every event until the brain has acknowledged it.

Used by the agent's thread only. Numbers each event, keeps within its caps by dropping the oldest, and counts what it
dropped in the same transaction, so that loss is never silent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import secrets
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from z4j_core import limits
from z4j_core.safety import log_once

from z4j_bare import bufferfiles
from z4j_bare.bufferdb import (
    INSERT_EVENT,
    EventRow,
    Legacy,
    connect,
    copy_readable,
    events_of,
    intact,
    legacy_of,
    unless_damaged,
)
from z4j_bare.forkguard import guarded

T = TypeVar("T")

_GAPS_KEPT = 50
_MEMORY_ROWS = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One buffered event: its place in the buffer and its JSON."""

    n: int
    body: str


class BufferStore:
    """Events waiting for their acknowledgement, in ``path`` or, when that is ``None``, in memory.

    ``max_rows`` and ``max_bytes`` cap what is kept. Not for use by several threads or over a fork.
    """

    @guarded
    def __init__(
        self,
        path: Path | None = None,
        *,
        max_rows: int = 50_000,
        max_bytes: int = 64 * limits.MIB,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._clock = clock
        self._left: Path | None = None
        self._max_rows = max_rows if path else min(max_rows, _MEMORY_ROWS)
        self._max_bytes = max_bytes
        self._lock = bufferfiles.FileLock(path) if path else None
        if self._lock is not None:
            self._lock.acquire()
        self._database = self._open(path)
        self._load()

    # -- opening ----------------------------------------------------------------------------------------------------

    def _open(self, path: Path | None) -> sqlite3.Connection:
        if path is None:
            return connect(":memory:")
        try:
            return connect(str(path))
        except sqlite3.DatabaseError as error:
            aside = path.with_name(f"{path.name}.corrupt")
            log_once("buffer.corrupt", f"the event buffer {path} is damaged ({error}); kept as {aside.name}")
            os.replace(path, aside)
            bufferfiles.remove(path)
            return connect(str(path))

    def _load(self) -> None:
        row = self._database.execute("SELECT epoch FROM identity").fetchone()
        if row is None:
            row = (secrets.token_hex(16),)
            with self._database:
                self._database.execute("INSERT INTO identity VALUES (?)", row)
        self.epoch: str = row[0]
        self._counters: dict[str, int] = dict(self._database.execute("SELECT name, value FROM counter"))
        self._rows, self._bytes = self._database.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM event"
        ).fetchone()

    # -- events -----------------------------------------------------------------------------------------------------

    @guarded
    def append(self, events: Sequence[dict[str, Any]], encode: Callable[[dict[str, Any]], str] | None = None) -> None:
        """Number, serialise and keep the events; the oldest rows make room when a cap is reached.

        Each event's ``data`` gets ``_z4j`` = {epoch, seq}. Events that cannot be kept are dropped and counted.
        """
        encode = encode or _encode
        now = self._clock()
        rows = []
        seq = self._counters.get("seq", 0)
        for event in events:
            event["data"]["_z4j"] = {"epoch": self.epoch, "seq": seq + 1}
            try:
                body = encode(event)
            except (TypeError, ValueError, RecursionError) as error:
                log_once("buffer.encode", f"an event cannot be written as JSON and is dropped ({error})")
                continue
            seq += 1
            rows.append((body, len(body), zlib.crc32(body.encode()), self.epoch, seq, now))
        self._counters["seq"] = seq
        self._count("produced", len(rows))
        self._write(lambda: self._insert(rows))
        if len(rows) < len(events):
            self.record_loss(len(events) - len(rows), "not_json")

    def _insert(self, rows: Iterable[EventRow]) -> None:
        for row in rows:
            self._database.execute(INSERT_EVENT, row)
            self._rows += 1
            self._bytes += row[1]
        while self._rows > self._max_rows or (self._bytes > self._max_bytes and self._rows > 1):
            surplus = max(self._rows - self._max_rows, 1, self._rows // 100)
            oldest = self._database.execute("SELECT n FROM event ORDER BY n LIMIT ?", (surplus,)).fetchall()
            self._remove([n for (n,) in oldest], "buffer_full")

    @guarded
    def read(self, after: int, max_events: int, max_bytes: int) -> list[Row]:
        """Return the oldest events behind ``after`` within both caps, at least one if there is any.

        An event that is not as it was written is dropped and counted.
        """
        query = "SELECT n, CAST(body AS BLOB), size, crc FROM event WHERE n > ? ORDER BY n LIMIT ?"
        found = self._ask(lambda: self._database.execute(query, (after, max_events)).fetchall())
        rows: list[Row] = []
        damaged: list[int] = []
        size = 0
        for n, body, length, crc in found:
            text = intact(body, crc)
            if text is None:
                damaged.append(n)
                continue
            size += length + 1
            if rows and size > max_bytes:
                break
            rows.append(Row(n, text))
        if damaged:
            log_once("buffer.damage", f"events in the buffer {self.path} are damaged and dropped")
            self._write(lambda: self._remove(damaged, "buffer_damaged"))
            return rows or self.read(after, max_events, max_bytes)
        return rows

    @guarded
    def acknowledge(self, numbers: Sequence[int]) -> None:
        """Forget these events: the brain has them."""
        self._write(lambda: self._count("acked", self._delete(numbers)))

    @guarded
    def drop(self, numbers: Sequence[int], reason: str) -> None:
        """Give these events up; they are counted under ``reason`` and reported as a gap."""
        self._write(lambda: self._remove(numbers, reason))

    @guarded
    def record_loss(self, count: int, reason: str) -> None:
        """Count events that were lost before they got a number."""
        first = self._counters.get("seq", 0) + 1
        self._count("seq", count)
        self._count("produced", count)
        self._write(lambda: self._lose(self.epoch, first, first + count - 1, reason))

    def count_sent(self, count: int) -> None:
        """Count events written to a socket, repetitions included."""
        self._count("sent", count)

    def _remove(self, numbers: Sequence[int], reason: str) -> None:
        lost: dict[str, list[int]] = {}
        for n in numbers:
            row = self._database.execute("SELECT epoch, seq FROM event WHERE n = ?", (n,)).fetchone()
            if row is not None:
                lost.setdefault(row[0], []).append(row[1])
        self._delete(numbers)
        for epoch, seqs in lost.items():
            for first, last in _runs(sorted(seqs)):
                self._lose(epoch, first, last, reason)

    def _delete(self, numbers: Sequence[int]) -> int:
        deleted = 0
        for n in numbers:
            for (size,) in self._database.execute("DELETE FROM event WHERE n = ? RETURNING size", (n,)).fetchall():
                self._rows -= 1
                self._bytes -= size
                deleted += 1
        return deleted

    def _lose(self, epoch: str, first: int, last: int, reason: str) -> None:
        count = last - first + 1
        self._count(f"dropped:{reason}", count)
        grown = self._database.execute(
            "UPDATE gap SET last = ?, count = count + ? WHERE epoch = ? AND reason = ? AND last = ?",
            (last, count, epoch, reason, first - 1),
        )
        if grown.rowcount == 0:
            self._database.execute("INSERT INTO gap VALUES (?, ?, ?, ?, ?)", (epoch, first, last, reason, count))
            self._database.execute("DELETE FROM gap WHERE rowid <= (SELECT max(rowid) FROM gap) - ?", (_GAPS_KEPT,))

    # -- what is reported -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._rows)

    @guarded
    def oldest_age(self) -> float | None:
        """Return how many seconds the oldest event has waited, ``None`` when nothing waits."""
        row = self._ask(lambda: self._database.execute("SELECT at FROM event ORDER BY n LIMIT 1").fetchone())
        return max(0.0, self._clock() - row[0]) if row else None

    def counters(self) -> dict[str, Any]:
        """Return {produced, adopted, sent, acked, buffered, dropped: {reason: n}}.

        ``adopted`` is what dead processes had told as buffered; what they had not told counts as this one's.
        ``produced + adopted == acked + buffered + the sum of dropped`` holds at every moment.
        """
        dropped = {key.partition(":")[2]: n for key, n in self._counters.items() if _is_drop(key)}
        named = {key: self._counters.get(key, 0) for key in ("produced", "adopted", "sent", "acked")}
        return {**named, "buffered": self._rows, "dropped": dropped}

    @guarded
    def told(self, counters: Mapping[str, Any]) -> None:
        """Remember that these counters have been sent, so that an heir of this file does not send them again."""
        fresh = {f"told:{name}": counters[name] for name in ("produced", "acked", "adopted", "buffered")}
        fresh |= {f"told:dropped:{reason}": count for reason, count in counters["dropped"].items()}
        if any(self._counters.get(name) != count for name, count in fresh.items()):
            self._write(lambda: self._counters.update(fresh))

    @guarded
    def gaps(self) -> list[dict[str, Any]]:
        """Return the newest gaps, each {epoch, from, to, reason, count}."""
        query = "SELECT epoch, first, last, reason, count FROM gap ORDER BY rowid"
        rows = self._ask(lambda: self._database.execute(query).fetchall())
        return [dict(zip(("epoch", "from", "to", "reason", "count"), row, strict=True)) for row in rows]

    # -- commands ---------------------------------------------------------------------------------------------------

    @guarded
    def command(self, identifier: str) -> tuple[bool, dict[str, Any] | None]:
        """Return whether this command was begun within the last 300 s, and its result if it has one."""
        query, since = "SELECT result FROM command WHERE id = ? AND at > ?", self._clock() - limits.COMMAND_MEMORY
        row = self._ask(lambda: self._database.execute(query, (identifier, since)).fetchone())
        return row is not None, json.loads(row[0]) if row and row[0] else None

    @guarded
    def remembered_commands(self) -> int:
        """Return how many commands are remembered."""
        query, since = "SELECT count(*) FROM command WHERE at > ?", self._clock() - limits.COMMAND_MEMORY
        return int(self._ask(lambda: self._database.execute(query, (since,)).fetchone())[0])

    @guarded
    def remember_command(self, identifier: str, result: dict[str, Any] | None = None) -> None:
        """Keep that a command was begun, or with what result it ended."""
        now, text = self._clock(), None if result is None else json.dumps(result)

        def write() -> None:
            self._database.execute("DELETE FROM command WHERE at <= ?", (now - limits.COMMAND_MEMORY,))
            self._database.execute("INSERT OR REPLACE INTO command VALUES (?, ?, ?)", (identifier, now, text))

        self._write(write)

    # -- files ------------------------------------------------------------------------------------------------------

    @guarded
    def adopt(self, folder: Path, identity: str) -> int:
        """Take over the events that dead processes of the same identity left in ``folder``; return how many.

        A crash on the way may leave them in both files. The next heir finds in one that it inherited the other.
        """
        own = self.path
        if own is None:
            return 0
        locks = {path: bufferfiles.FileLock(path) for path in bufferfiles.siblings(folder, identity, own)}
        held = {path: lock for path, lock in locks.items() if lock.acquire()}
        try:
            return self._inherit(list(held))
        finally:
            for path, lock in held.items():
                lock.release(remove=not path.exists())

    def _inherit(self, paths: Sequence[Path]) -> int:
        left = {path: legacy for path in paths if (legacy := unless_damaged(path, legacy_of))}
        taken = {epoch for (epoch,) in self._database.execute("SELECT epoch FROM heritage")}
        taken.update(epoch for legacy in left.values() for epoch in legacy.heritage)
        adopted = 0
        for path, legacy in left.items():
            if legacy.epoch not in taken:
                found = unless_damaged(path, events_of)
                if found is None:
                    continue
                rows, damaged = found
                self._write(functools.partial(self._take_over, legacy, rows, damaged))
                adopted += len(rows)
            if self.path is None:
                # This process's disk failed meanwhile: what it inherited is in memory only, and the files stay.
                break
            bufferfiles.remove(path)
        return adopted

    def _take_over(self, legacy: Legacy, rows: Sequence[EventRow], damaged: int) -> None:
        self._insert(rows)
        if damaged:
            self._lose_unseen(legacy.epoch, legacy.counters.get("seq", 0), damaged)
        self._database.executemany("INSERT INTO gap VALUES (?, ?, ?, ?, ?)", legacy.gaps)
        self._database.executemany("INSERT OR IGNORE INTO command VALUES (?, ?, ?)", legacy.commands)
        heritage = [(epoch,) for epoch in (legacy.epoch, *legacy.heritage)]
        self._database.executemany("INSERT OR IGNORE INTO heritage VALUES (?)", heritage)
        # What the dead process had told stays told; the rest is told by this one, so that each count arrives once.
        counters = legacy.counters
        for name in ("produced", "acked", "adopted", *filter(_is_drop, counters)):
            if untold := counters.get(name, 0) - counters.get(f"told:{name}", 0):
                self._count(name, untold)
        self._count("adopted", counters.get("told:buffered", 0))

    @guarded
    def close(self) -> None:
        """Close the file; remove it when nothing in it is needed any more."""
        with contextlib.suppress(sqlite3.Error), self._database:
            self._save_counters()
        recent = self._clock() - limits.COMMAND_MEMORY
        untold = any(n != self._counters.get(f"told:{name}", 0) for name, n in self._counters.items() if _is_drop(name))
        keep = (
            self._rows or untold or self._database.execute("SELECT 1 FROM command WHERE at > ?", (recent,)).fetchone()
        )
        self._database.close()
        file = self.path or self._left
        if file is not None and not keep:
            bufferfiles.remove(file)
        if self._lock is not None:
            self._lock.release(remove=not keep)

    # -- writing ----------------------------------------------------------------------------------------------------

    def _count(self, name: str, by: int = 1) -> int:
        value: int = self._counters.get(name, 0) + by
        self._counters[name] = value
        return value

    def _save_counters(self) -> None:
        self._database.executemany("INSERT OR REPLACE INTO counter VALUES (?, ?)", list(self._counters.items()))

    def _write(self, change: Callable[[], object]) -> None:
        """Make one change in one transaction; on a failing disk move to memory and make it there."""
        before = (dict(self._counters), self._rows, self._bytes)
        try:
            with self._database:
                change()
                self._save_counters()
        except sqlite3.Error as error:
            if self.path is None:
                raise
            self._counters, self._rows, self._bytes = before
            self._to_memory(error)
            with self._database:
                change()
                self._save_counters()

    def _ask(self, read: Callable[[], T]) -> T:
        """Read; from a damaged file what can still be read is taken into memory first."""
        try:
            return read()
        except sqlite3.Error as error:
            if self.path is None:
                raise
            self._to_memory(error)
            return read()

    def _to_memory(self, error: sqlite3.Error) -> None:
        log_once("buffer.disk", f"the event buffer {self.path} cannot be used ({error}): events are kept in memory")
        memory = connect(":memory:")
        copy_readable(self._database, memory)
        # The file stays for the next process to adopt: what it holds twice is delivered twice under the same ids.
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        self._database, self._left, self.path = memory, self.path, None
        self._max_rows = min(self._max_rows, _MEMORY_ROWS)
        had = self._rows
        self._rows, self._bytes = memory.execute("SELECT count(*), coalesce(sum(size), 0) FROM event").fetchone()
        with memory:
            memory.execute("INSERT INTO identity VALUES (?)", (self.epoch,))
            if had > self._rows:
                self._lose_unseen(self.epoch, self._counters.get("seq", 0), had - self._rows)
            self._save_counters()

    def _lose_unseen(self, epoch: str, last: int, count: int) -> None:
        """Count events that cannot be read any more: so many of those up to ``last``, nobody knows which."""
        self._count("dropped:buffer_damaged", count)
        self._database.execute("INSERT INTO gap VALUES (?, 1, ?, 'buffer_damaged', ?)", (epoch, last, count))


def _is_drop(counter: str) -> bool:
    return counter.startswith("dropped:")


def _encode(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=True)


def _runs(numbers: Sequence[int]) -> Iterable[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
