"""Keeps a fork of the host from happening while the agent's thread is where a copy of the process would be stuck.

Two places are like that: inside SQLite, whose mutexes a child would inherit locked, and inside an import, whose module
lock the child's own import of that module would wait for. A fork waits for the thread to leave, 1 s at the most; when
that was not enough the child does without an agent.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_WAIT = 1.0


class ForkGuard:
    """A lock around what must not be cut in two by a fork."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._forking = threading.local()
        #: False in a child that was forked in spite of the guard.
        self.clean = True

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before(self) -> None:
        """Wait for the agent's thread. Runs in the forking thread, in front of the fork."""
        self._forking.acquired = self._lock.acquire(timeout=_WAIT)

    def after_in_parent(self) -> None:
        """Let the agent's thread go on."""
        if self._forking.acquired:
            self._lock.release()

    def after_in_child(self) -> None:
        """Begin anew: the thread that may hold the lock does not exist here."""
        self.clean = self.clean and self._forking.acquired
        self._lock = threading.RLock()
        self._forking = threading.local()


guard = ForkGuard()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=guard.before, after_in_parent=guard.after_in_parent, after_in_child=guard.after_in_child)


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` under the guard."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with guard:
            return function(*args, **kwargs)

    return run
