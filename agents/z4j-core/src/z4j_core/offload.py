"""A bounded number of daemon threads for what may block: engine calls made for a command or for health.

Not ``concurrent.futures``: its threads are joined at interpreter exit, so one blocked call would hang the host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from z4j_core.errors import ActionRefused

T = TypeVar("T")


class Offload:
    """Runs calls on daemon threads, at most ``workers`` at a time."""

    def __init__(self, workers: int = 8) -> None:
        self._free = threading.BoundedSemaphore(workers)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Start ``call`` and return its future.

        Raises :class:`ActionRefused` when all threads are busy or none can be started. A call cannot be
        interrupted: who stops waiting for the future must report the outcome as unknown.
        """
        if not self._free.acquire(blocking=False):
            raise ActionRefused("the agent is busy with other commands")
        future: Future[T] = Future()
        try:
            threading.Thread(target=self._run, args=(call, future), name="z4j-call", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            self._free.release()
            raise ActionRefused(f"no thread could be started: {error}") from error
        return future

    def _run(self, call: Callable[[], T], future: Future[T]) -> None:
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(call())
        except BaseException as error:  # handed to the waiter, as the thread has nobody else to tell
            future.set_exception(error)
        finally:
            self._free.release()
