"""What a peer's frame may hold, for every frame but events: checked before it is kept or handed on. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

from z4j_core import limits
from z4j_core.errors import FrameError
from z4j_core.frames import parse_json

#: Values in one frame; a frame of small values would take many times its size once parsed.
MAX_NODES = 10_000
#: Longest key of an object, in characters.
MAX_KEY = 256

#: A whole string, which may hold commas and brackets, or what begins another value. A string that does not end reaches
#: to the end and is never tried again from its middle, which would take time in the square of its length.
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{,]', re.DOTALL)


def parse(raw: bytes) -> dict[str, Any]:
    """Parse JSON into an object within all caps.

    Raises :class:`FrameError` for what is not JSON or not UTF-8, nested too deep, with too many values, too long keys,
    integers beyond 64 bit or numbers that are not finite.
    """
    _check_count(raw)
    document = parse_json(raw)
    _check(document)
    return document


def _check_count(raw: bytes) -> None:
    """Count the values before they are made."""
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") <= MAX_NODES:
        return
    count = sum(1 for match in _VALUE.finditer(raw) if match.group() in b"[{,")
    if count > MAX_NODES:
        raise FrameError(f"the frame has more than {MAX_NODES} values")


def _check(document: dict[str, Any]) -> None:
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if any(len(key) > MAX_KEY for key in value):
                raise FrameError(f"a key is longer than {MAX_KEY} characters")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and not -limits.MAX_INT - 1 <= value <= limits.MAX_INT:
            raise FrameError("an integer does not fit into 64 bit")
        elif isinstance(value, float) and not math.isfinite(value):
            raise FrameError("a number is not finite")
