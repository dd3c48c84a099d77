"""What a connection needs of a transport."""

from __future__ import annotations

from typing import Protocol


class TransportClosed(Exception):
    """The connection is closed or could not be opened; ``code`` is the close code, ``status`` the HTTP status."""

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status


class Transport(Protocol):
    """One open connection. Every method raises :class:`TransportClosed` when it is over."""

    async def send(self, message: bytes) -> None:
        """Write one message; waits while the peer does not read."""

    async def receive(self) -> bytes:
        """Return the next message."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in good order, within bounded time. Never raises."""
