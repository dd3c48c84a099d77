"""The writer thread: takes what waits, commits it as one group, then tells everyone who waits for it.

Under load groups grow by themselves; nothing lingers. Calls of other writers of the gateway go through the same
thread, so that SQLite has one writer and the event loop never waits for a database.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connection

from brain import live
from brain.ingest.commit import Batch, Committer, Verdict
from brain.ingest.store import Source

logger = logging.getLogger("z4j.ingest")
T = TypeVar("T")

MAX_GROUP_FRAMES = 200
MAX_GROUP_BYTES = 2 * 1024 * 1024


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
    """Owns the writer thread."""

    def __init__(self) -> None:
        self._items: deque[_Waiting | _Call] = deque()
        self._wake = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._committer = Committer()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; results are delivered on ``loop``."""
        self._loop = loop
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="z4j-writer", daemon=True)
        self._thread.start()

    def submit(self, source: Source, retention_days: int, payload_json: bytes) -> asyncio.Future[Verdict]:
        """Queue a batch; call on the event loop. The future is done after the commit."""
        waiting = _Waiting(Batch(source, retention_days, payload_json), self._future())
        self._put(waiting)
        return waiting.future

    def call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run ``function`` on the writer thread between two groups; call on the event loop."""
        call = _Call(lambda: function(*args), self._future())
        self._put(call)
        return call.future

    def stop(self, timeout: float = 30.0) -> bool:
        """Write what waits, then end the thread; False when it did not end within ``timeout`` seconds."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _future(self) -> asyncio.Future[Any]:
        assert self._loop is not None, "the writer is not started"
        return self._loop.create_future()

    def _put(self, item: _Waiting | _Call) -> None:
        with self._wake:
            self._items.append(item)
            self._wake.notify()

    def _run(self) -> None:
        try:
            while (work := self._take()) is not None:
                if isinstance(work, _Call):
                    self._do(work)
                else:
                    self._write(work)
        finally:
            connection.close()

    def _take(self) -> list[_Waiting] | _Call | None:
        """Wait for work: a group of batches, or the call that comes first; None at the end."""
        with self._wake:
            while not self._items:
                if self._stopping:
                    return None
                self._wake.wait()
            first = self._items.popleft()
            if isinstance(first, _Call):
                return first
            group, size = [first], len(first.batch.payload_json)
            while self._items and len(group) < MAX_GROUP_FRAMES and size < MAX_GROUP_BYTES:
                item = self._items[0]
                if isinstance(item, _Call):
                    break
                self._items.popleft()
                size += len(item.batch.payload_json)
                group.append(item)
            return group

    def _do(self, call: _Call) -> None:
        try:
            result = call.run()
        except Exception as error:
            connection.close_if_unusable_or_obsolete()
            self._deliver([(call.future, None, error)])
        else:
            self._deliver([(call.future, result, None)])

    def _write(self, group: list[_Waiting]) -> None:
        try:
            self._committer.commit([waiting.batch for waiting in group])
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
