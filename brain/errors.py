"""The exceptions of the brain, and the one table that turns them into HTTP statuses."""

from __future__ import annotations

from z4j_core.errors import Z4JError


class BrainError(Z4JError):
    """The brain could not do this."""


class NotFound(BrainError):
    """There is nothing here, or it is not yours to see."""


class PermissionDenied(BrainError):
    """Your role does not allow this."""


class Conflict(BrainError):
    """This is not possible in the present state."""


class InvalidInput(BrainError):
    """The input is not valid."""


class HandshakeRefused(BrainError):
    """The agent may not connect."""

    def __init__(self, message: str, *, close_code: int) -> None:
        super().__init__(message)
        self.close_code = close_code


HTTP_STATUS: dict[type[BrainError], int] = {
    InvalidInput: 400,
    PermissionDenied: 403,
    NotFound: 404,
    Conflict: 409,
}


def http_status(error: BrainError) -> int:
    """Return the HTTP status for an error of the brain; 500 for one that has none."""
    return next((status for kind, status in HTTP_STATUS.items() if isinstance(error, kind)), 500)
