"""Events from a pool's child processes to the worker's main process, which alone is connected to the brain.

One pipe made before the pool forks. Each event is one line of at most PIPE_BUF bytes, which the kernel writes whole or
not at all, so that many children can share it without a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from collections.abc import Callable
from datetime import datetime
from threading import Thread

from z4j_core.events import TaskEvent
from z4j_core.safety import safe_boundary

_ATOMIC = getattr(select, "PIPE_BUF", 512)
_READ = 65536


class ChildPipe:
    """Carries events from forked children to :attr:`deliver` in the process that made the pipe."""

    def __init__(self, deliver: Callable[[TaskEvent], None]) -> None:
        self._deliver = deliver
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._rest = b""
        self._thread: Thread | None = None

    def send(self, event: TaskEvent) -> None:
        """Write one event, in a child. A full pipe loses it: the worker that receives the task tells the same."""
        line = _line(event)
        if len(line) > _ATOMIC:
            small = {key: value for key, value in event.data.items() if key not in ("args", "kwargs")}
            small |= {"replayable": False, "replay_reason": "arguments truncated"}
            line = _line(
                TaskEvent(
                    kind=event.kind,
                    engine=event.engine,
                    task_id=event.task_id,
                    occurred_at=event.occurred_at,
                    data=small,
                    id=event.id,
                )
            )
        if len(line) <= _ATOMIC:
            with contextlib.suppress(OSError):
                os.write(self._writer, line)

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
                        self._deliver(_event(line))


def _line(event: TaskEvent) -> bytes:
    return json.dumps(event.wire(), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _event(line: bytes) -> TaskEvent:
    fields = json.loads(line)
    fields["occurred_at"] = datetime.fromisoformat(fields["occurred_at"])
    return TaskEvent(**fields)
