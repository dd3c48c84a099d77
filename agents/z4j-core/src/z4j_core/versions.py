"""The protocol version and the rule that decides whether two peers may talk."""

from __future__ import annotations

#: Value of ``v`` in every frame and of ``protocol_version`` in the handshake (wire protocol, section 2).
FRAME_VERSION = 2
PROTOCOL_VERSION = "2"


def compatible(protocol_version: str) -> bool:
    """Tell whether a peer that announces ``protocol_version`` speaks our major line."""
    return protocol_version.split(".", 1)[0] == PROTOCOL_VERSION


def package_version(distribution: str = "z4j-core") -> str:
    """Return the installed version of a z4j distribution, ``"0"`` when it runs from a bare source tree."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to import, and seldom needed

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"
