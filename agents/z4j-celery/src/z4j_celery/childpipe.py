"""Events from a pool's child processes to the worker's main process, which alone is connected to the brain.

One pipe made before the pool forks. Each event is one line of at most PIPE_BUF bytes, which the kernel writes whole or
not at all, so that many children can share it without a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from datetime import datetime
from threading import Thread
from typing import Any

from z4j_core.adapters import Sink
from z4j_core.events import TaskEvent
from z4j_core.safety import logger, safe_boundary

try:
    import fcntl
except ImportError:  # Windows, which has no pool that forks
    fcntl = None  # type: ignore[assignment]

_ATOMIC = getattr(select, "PIPE_BUF", 512)
_READ = 65536
_ROOM = 1024 * 1024


class ChildPipe:
    """Carries events from forked children to ``sink`` in the process that made the pipe."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        _enlarge(self._writer)
        self._rest = b""
        self._thread: Thread | None = None
        #: In a child: events that found no room, not yet told to the parent.
        self._lost = 0

    def send(self, event: TaskEvent) -> None:
        """Write one event, in a child. One that finds no room is counted, and told with the next that does."""
        document = event.wire()
        if len(_line(document | {"lost": self._lost})) > _ATOMIC:
            data = {key: value for key, value in event.data.items() if key not in ("args", "kwargs")}
            document["data"] = data | {"replayable": False, "replay_reason": "arguments truncated"}
        if not self._write(document):
            self._lost += 1

    def finish(self) -> None:
        """Tell what was lost and not told yet, at the end of a child."""
        if self._lost:
            self._write({})

    def _write(self, document: dict[str, Any]) -> bool:
        line = _line(document | {"lost": self._lost} if self._lost else document)
        if len(line) > _ATOMIC:
            return False
        try:
            os.write(self._writer, line)
        except OSError:  # full, or the parent is gone; either way the caller counts
            return False
        self._lost = 0
        return True

    def start(self) -> None:
        """Begin reading, in the main process and after the pool has forked."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="z4j-children", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._reader], [], [], 5.0)
            if ready:
                self.drain()

    def drain(self) -> None:
        """Deliver everything that is in the pipe now."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._reader, _READ):
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    with safe_boundary("celery.child"):
                        self._take(json.loads(line))

    def _take(self, document: dict[str, Any]) -> None:
        if lost := document.pop("lost", 0):
            self._sink.record_loss(lost, "child_pipe_full")
        if document:
            occurred_at = datetime.fromisoformat(document.pop("occurred_at"))
            self._sink.record_event(TaskEvent(occurred_at=occurred_at, **document))


def _enlarge(pipe: int) -> None:
    """Give the pipe as much room as an ordinary user gets: nobody reads it before the pool has forked."""
    if fcntl is None or not hasattr(fcntl, "F_SETPIPE_SZ"):
        return
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _ROOM)
    except OSError as error:  # the user's share of pipe memory is used up: the usual 64 KiB have to do
        logger.debug("[z4j] the pipe of the pool's children stays small: %s", error)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
