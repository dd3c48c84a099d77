"""Who may connect: caps on the sockets in all, of one address and of one credential. Pure counting, no I/O.

All of it is counted in this process, at the moment a socket comes, so that a storm of connections meets the cap.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar
from uuid import UUID

K = TypeVar("K", bound=Hashable)

#: Connections that may be without complete request headers at a time; a newcomer beyond it costs the oldest of them.
MAX_NAMELESS = 1000
#: Log lines of one kind at once, and seconds after which one more is granted.
LOG_BURST, LOG_INTERVAL = 20, 5.0


class Droppable(Protocol):
    """A connection that can be cut."""

    def drop(self) -> None:
        """Cut it at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Caps:
    """How many sockets are allowed; 0 means without limit."""

    total: int
    per_address: int
    per_agent: int


class LogThrottle:
    """Lets the first lines of a kind through and then one now and again, with the number of those left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens: dict[Hashable, tuple[float, float]] = {}
        self._silent: Counter[Hashable] = Counter()

    def __call__(self, kind: Hashable) -> str | None:
        """Return what to append to the line: an empty string, or how many were left out; None for no line now."""
        now = self._clock()
        tokens, since = self._tokens.get(kind, (float(LOG_BURST), now))
        tokens = min(LOG_BURST, tokens + (now - since) / LOG_INTERVAL)
        self._tokens[kind] = (tokens - 1 if tokens >= 1 else tokens, now)
        if tokens < 1:
            self._silent[kind] += 1
            return None
        left_out = self._silent.pop(kind, 0)
        return f" ({left_out} more like this left out)" if left_out else ""


class Admission:
    """Counts the sockets of one process. A socket is any hashable object of the server's."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self._address: dict[Hashable, str] = {}
        self._by_address: Counter[str] = Counter()
        self._by_agent: Counter[UUID] = Counter()
        self._nameless: OrderedDict[Hashable, Droppable] = OrderedDict()

    @property
    def total(self) -> int:
        """The number of sockets now."""
        return len(self._address)

    def enter(self, socket: Hashable, address: str, connection: Droppable) -> str:
        """Count a socket in; return why it may not stay, or an empty string.

        ``address`` is empty for a UNIX socket, which has no cap of its own. One without headers yet may push out the
        oldest of its kind: those who dawdle make room, not those who come.
        """
        if self.caps.total and self.total >= self.caps.total:
            return f"{self.total} sockets are open, no more are allowed in all"
        if address and self.caps.per_address and self._by_address[address] >= self.caps.per_address:
            return f"{self._by_address[address]} sockets are open from {address}, no more are allowed from one address"
        self._address[socket] = address
        self._by_address[address] += 1
        self._nameless[socket] = connection
        if len(self._nameless) > MAX_NAMELESS:
            _, oldest = self._nameless.popitem(last=False)
            oldest.drop()
        return ""

    def named(self, socket: Hashable) -> None:
        """Note that the headers of a socket's first request are complete."""
        self._nameless.pop(socket, None)

    def leave(self, socket: Hashable) -> None:
        """Count a socket out; once is enough."""
        address = self._address.pop(socket, None)
        self._nameless.pop(socket, None)
        if address is not None:
            _down(self._by_address, address)

    def take_seat(self, agent_id: UUID) -> bool:
        """Count a socket of a credential in; False when it has as many as are allowed."""
        if self.caps.per_agent and self._by_agent[agent_id] >= self.caps.per_agent:
            return False
        self._by_agent[agent_id] += 1
        return True

    def free_seat(self, agent_id: UUID) -> None:
        """Count a socket of a credential out."""
        _down(self._by_agent, agent_id)


def _down(counter: Counter[K], key: K) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
