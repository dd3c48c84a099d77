"""The hand-over from the host's threads to the agent's thread: never blocks, takes no lock, counts what it refuses."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Ring(Generic[T]):
    """A bounded queue for many producers and one consumer.

    When it is full the newest item is refused, so that every item was either taken over or counted; the consumer
    empties it several times a second, and what overflows there would overflow for any order of dropping.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._refusals = itertools.count()
        self._refused_seen = 0
        self._losses: deque[tuple[int, str]] = deque()

    def put(self, item: T) -> bool:
        """Add one item; tell whether there was room."""
        if len(self._items) >= self._capacity:
            next(self._refusals)  # atomic, unlike +=
            return False
        self._items.append(item)
        return True

    def take(self, count: int) -> list[T]:
        """Remove and return up to ``count`` items, oldest first. For the consumer only."""
        taken: list[T] = []
        while self._items and len(taken) < count:
            taken.append(self._items.popleft())
        return taken

    def refused(self) -> int:
        """Return how many items were refused since the last call. For the consumer only."""
        # repr is the only way to read a count without advancing it.
        total = int(repr(self._refusals)[6:-1])
        fresh, self._refused_seen = total - self._refused_seen, total
        return fresh

    def lose(self, count: int, reason: str) -> None:
        """Note that ``count`` items were lost before they got here."""
        self._losses.append((count, reason))

    def losses(self) -> list[tuple[int, str]]:
        """Return (count, reason) of what was noted as lost since the last call. For the consumer only."""
        noted = []
        while self._losses:
            noted.append(self._losses.popleft())
        return noted

    def __len__(self) -> int:
        return len(self._items)
