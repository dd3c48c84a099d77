"""The boundary between the agent and its host: what fails inside is logged once and never seen by the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

logger = logging.getLogger("z4j")

_KINDS_CAP = 512
_seen: set[tuple[str, str]] = set()
_host_interrupts: tuple[type[BaseException], ...] = ()


def register_host_interrupt(*classes: type[BaseException]) -> None:
    """Let exceptions of these classes pass every boundary.

    For what the host's engine raises from a signal handler, such as a soft time limit: it may surface at any
    instruction, also inside a hook, but is meant for the host's code.
    """
    global _host_interrupts  # noqa: PLW0603 - replaced as a whole, so that a boundary in another thread may read it
    _host_interrupts = (*_host_interrupts, *(one for one in classes if one not in _host_interrupts))


def log_once(kind: str, message: str, *, level: int = logging.WARNING, detail: str = "") -> None:
    """Log ``message`` the first time this ``(kind, detail)`` happens in the process, at debug level afterwards."""
    key = (kind, detail)
    if key in _seen:
        level = logging.DEBUG
    elif len(_seen) < _KINDS_CAP:
        _seen.add(key)
    logger.log(level, "[z4j] %s", message)


class safe_boundary(ContextDecorator):
    """Keep every :class:`Exception` raised inside away from the host; ``error`` holds the last one.

    ``KeyboardInterrupt``, ``SystemExit`` and other ``BaseException`` pass: they belong to the host, and so do the
    classes of :func:`register_host_interrupt`. A kind of failure is logged once. Works as a context manager and as a
    decorator.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.error: Exception | None = None

    def _recreate_cm(self) -> Self:
        return type(self)(self.kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, _host_interrupts):
            return False
        # The traceback would keep the host's frames, and with them its objects, alive.
        self.error = error.with_traceback(None)
        try:
            text = f"{type(error).__name__}: {str(error)[:500]}"
        except _host_interrupts:  # arrived just now, while the text was made
            raise
        except Exception:  # the boundary itself: an exception whose text raises must not pass either
            text = type(error).__name__
        log_once(self.kind, f"{self.kind} failed inside the agent, the host is not affected: {text}", detail=text[:80])
        return True


def safe_call(function: Callable[..., T], *args: Any, default: T | None = None, **kwargs: Any) -> T | None:
    """Call ``function`` and return its result, or ``default`` when it raises an :class:`Exception`."""
    with safe_boundary(getattr(function, "__qualname__", "call")):
        return function(*args, **kwargs)
    return default
