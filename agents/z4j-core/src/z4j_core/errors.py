"""The exception tree of core and agents. A class's docstring is its default message."""

from __future__ import annotations


class Z4JError(Exception):
    """z4j failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])


class FrameError(Z4JError):
    """The frame is not valid."""

    close_code = 4400


class FrameTooLarge(FrameError):
    """The frame is larger than the peer accepts."""

    close_code = 1009


class UnknownFrameType(FrameError):
    """The frame has a type this side does not know."""


class VersionMismatch(FrameError):
    """The peer speaks another protocol version."""

    close_code = 4426


class SignatureError(Z4JError):
    """The frame's signature does not match."""

    close_code = 4403


class ReplayError(SignatureError):
    """The frame repeats an earlier one."""


class ClockSkewError(SignatureError):
    """The frame's time is too far from this side's clock."""

    def __init__(self, message: str | None = None, *, skew_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.skew_seconds = skew_seconds


class ConfigError(Z4JError):
    """The configuration is not valid."""


class AdapterError(Z4JError):
    """The engine adapter failed."""


class EngineUnavailable(AdapterError):
    """The engine is not installed or cannot be used."""


class ActionRefused(AdapterError):
    """The action was refused."""


class ActionFailed(AdapterError):
    """The action failed."""
