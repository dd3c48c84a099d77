"""How long to wait before the next connection, by what ended the last one."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

#: Close codes by class (wire protocol, section 7).
AUTH_CODES = frozenset({4401, 4403, 4003})
INCOMPATIBLE_CODES = frozenset({4426, 4427})
#: Too large or not valid: the frames in flight are suspects.
POISON_CODES = frozenset({1009, 4400})


class Failure(StrEnum):
    """Why a connection ended, as far as waiting is concerned."""

    NETWORK = "network"
    AUTH = "auth"
    INCOMPATIBLE = "incompatible"


def classify(code: int | None, status: int | None = None) -> Failure:
    """Return the class of a close code or of the HTTP status of a refused upgrade."""
    if code in AUTH_CODES or status in (401, 403):
        return Failure.AUTH
    if code in INCOMPATIBLE_CODES or status == 426:
        return Failure.INCOMPATIBLE
    return Failure.NETWORK


def explain(code: int | None, reason: str) -> str:
    """Return a close code in words a person can act on."""
    text = {
        1009: "a frame was larger than the brain accepts",
        1011: "the brain had an internal error",
        4002: "a newer connection with the same credentials took over",
        4003: "the token was revoked",
        4400: "the brain could not read a frame",
        4401: "the brain does not accept the token: is it complete, not revoked, and its project not archived?",
        4403: "the brain refused the signature or this address: check hmac_secret and the clock of this host",
        4408: "the brain heard nothing for too long",
        4012: "the brain restarts",
        4426: "the brain speaks another protocol version: upgrade the older side",
        4427: "the brain does not support this agent's version",
        4429: "too many connections with this token",
    }.get(code or 0, "the connection was lost" if code in (None, 1006) else f"the connection was closed ({code})")
    return f"{text} ({reason})" if reason else text


class Backoff:
    """Exponential waiting with full jitter: 1 s up to ``cap``; 10 s to 10 min after a refusal of the credentials;
    1 min to 1 h when the versions do not fit. The first network failure after a good connection costs under 1 s.
    """

    def __init__(self, cap: float = 30.0, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._cap = cap
        self._uniform = uniform
        self.streaks: dict[Failure, int] = dict.fromkeys(Failure, 0)

    def succeeded(self) -> None:
        """Forget the failures: the brain accepted this agent's frames."""
        self.streaks = dict.fromkeys(Failure, 0)

    def delay(self, failure: Failure) -> float:
        """Count one failure and return the seconds to wait after it."""
        self.streaks[failure] += 1
        streak = min(self.streaks[failure], 16)
        if failure is Failure.NETWORK:
            if streak == 1:
                return self._uniform(0.2, 1.0)
            high = min(self._cap, 2.0 ** (streak - 1))
            return self._uniform(min(1.0, high), high)
        low, high = (10.0, 600.0) if failure is Failure.AUTH else (60.0, 3600.0)
        return self._uniform(low, min(high, low * 2.0**streak))
