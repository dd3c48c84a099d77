"""The way of batches to the database: a thread that makes them ready, and one that writes what waits as one group.

While the writer waits for the database, the next batches are decoded and folded. Under load groups grow by themselves;
nothing lingers. Calls of other writers of the gateway go through the writer thread too, so that SQLite has one writer
and the event loop never waits for a database.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from django.db import connection

from brain import live
from brain.ingest.batch import Batch, Verdict
from brain.ingest.commit import Committer
from brain.ingest.sql import Source
from brain.ingest.store import database

logger = logging.getLogger("z4j.ingest")
T = TypeVar("T")

MAX_GROUP_FRAMES = 200
MAX_GROUP_BYTES = 2 * 1024 * 1024
#: Bytes of payload that are decoded ahead of the writer: decoded they take about twelve times as many.
MAX_AHEAD = 3 * 1024 * 1024 // 2


@dataclasses.dataclass(slots=True)
class _Waiting:
    batch: Batch
    future: asyncio.Future[Verdict]


@dataclasses.dataclass(slots=True)
class _Call:
    run: Callable[[], Any]
    future: asyncio.Future[Any]


_Result = tuple["asyncio.Future[Any]", Any, BaseException | None]


class Writer:
    """Owns the two threads."""

    def __init__(self) -> None:
        # None at the end of a queue ends its thread.
        self._arrived: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._ready: SimpleQueue[_Waiting | _Call | None] = SimpleQueue()
        self._next: _Waiting | _Call | None = None
        self._ahead = 0
        self._room = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads; results are delivered on ``loop``."""
        self._loop = loop
        self._arrived, self._ready, self._next, self._ahead = SimpleQueue(), SimpleQueue(), None, 0
        self._threads = [
            threading.Thread(target=self._prepare, name="z4j-prepare", daemon=True),
            threading.Thread(target=self._run, name="z4j-writer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, source: Source, retention_days: int, payload_json: bytes) -> asyncio.Future[Verdict]:
        """Queue a batch; call on the event loop. The future is done after the commit."""
        waiting = _Waiting(Batch(source, retention_days, payload_json, datetime.now(UTC)), self._future())
        self._arrived.put(waiting)
        return waiting.future

    def call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run ``function`` on the writer thread between two groups; call on the event loop."""
        call = _Call(lambda: function(*args), self._future())
        self._ready.put(call)
        return call.future

    def stop(self, timeout: float = 10.0) -> bool:
        """Write what waits, then end the threads; False when they did not end within ``timeout`` seconds.

        What is not written then is not acknowledged either, and comes again.
        """
        self._arrived.put(None)
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _future(self) -> asyncio.Future[Any]:
        assert self._loop is not None, "the writer is not started"
        return self._loop.create_future()

    def _prepare(self) -> None:
        statements = database()
        while (waiting := self._arrived.get()) is not None:
            self._wait_for_room(len(waiting.batch.payload_json))
            try:
                waiting.batch.prepare(statements)
            except Exception as error:
                logger.exception("a batch could not be prepared; it is not acknowledged")
                self._took(len(waiting.batch.payload_json))
                self._deliver([(waiting.future, None, error)])
            else:
                self._ready.put(waiting)
        self._ready.put(None)

    def _wait_for_room(self, size: int) -> None:
        with self._room:
            while self._ahead and self._ahead + size > MAX_AHEAD:
                self._room.wait()
            self._ahead += size

    def _took(self, size: int) -> None:
        with self._room:
            self._ahead -= size
            self._room.notify()

    def _run(self) -> None:
        committer = Committer()
        try:
            while (work := self._take()) is not None:
                if isinstance(work, _Call):
                    self._do(work)
                else:
                    self._write(committer, work)
        finally:
            connection.close()

    def _take(self) -> list[_Waiting] | _Call | None:
        """Wait for work: a group of batches, or the call that comes first; None at the end."""
        first, self._next = self._next or self._ready.get(), None
        if first is None or isinstance(first, _Call):
            return first
        group, size = [first], len(first.batch.payload_json)
        while len(group) < MAX_GROUP_FRAMES and size < MAX_GROUP_BYTES:
            try:
                item = self._ready.get_nowait()
            except Empty:
                break
            if not isinstance(item, _Waiting):
                self._put_off(item)
                break
            size += len(item.batch.payload_json)
            group.append(item)
        self._took(size)
        return group

    def _put_off(self, item: _Call | None) -> None:
        """Do what comes between two groups after this one."""
        if item is None:
            self._ready.put(None)
        else:
            self._next = item

    def _do(self, call: _Call) -> None:
        try:
            result = call.run()
        except Exception as error:
            connection.close_if_unusable_or_obsolete()
            self._deliver([(call.future, None, error)])
        else:
            self._deliver([(call.future, result, None)])

    def _write(self, committer: Committer, group: list[_Waiting]) -> None:
        try:
            committer.commit([waiting.batch for waiting in group])
        except Exception as error:
            logger.exception("a group of %d batches could not be written; it is not acknowledged", len(group))
            self._deliver([(waiting.future, None, error) for waiting in group])
            return
        live.changed({waiting.batch.source.project_id for waiting in group if waiting.batch.accepted})
        self._deliver([(waiting.future, waiting.batch.verdict, None) for waiting in group])

    def _deliver(self, results: list[_Result]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_resolve, results)
        except RuntimeError:
            logger.warning("%d results came after the event loop had ended", len(results))


def _resolve(results: list[_Result]) -> None:
    for future, result, error in results:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
