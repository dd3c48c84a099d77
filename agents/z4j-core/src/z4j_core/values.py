"""Plain copies of arbitrary Python values: bounded JSON, made without running any code of the value's class.

No ``__repr__``, ``__str__`` or ``__iter__`` of a foreign class is called, so a hostile object cannot raise or hang, a
lazy queryset runs no SQL and a generator is not consumed.
"""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID

from z4j_core import limits
from z4j_core.text import clean_text, shorten

_MAX_DEPTH = 8
_MAX_NODES = 2000
#: Types of the standard library whose ``str`` is known to be short and harmless; looked up by exact type.
_TEXT_TYPES: frozenset[type] = frozenset(
    {Decimal, UUID, Fraction, complex, timedelta, IPv4Address, IPv6Address}
    | {PosixPath, PurePosixPath, PureWindowsPath, WindowsPath}
)
_TIME_TYPES: frozenset[type] = frozenset({datetime, date, time})


class Copy:
    """A plain copy of one value, made within ``cap`` characters.

    ``value`` is JSON; ``exact`` tells whether it is the same value (and not a text that stands for it);
    ``truncated`` whether something was cut.
    """

    __slots__ = ("_budget", "_nodes", "exact", "truncated", "value")

    def __init__(self, value: Any, cap: int = limits.MAX_ARGUMENTS) -> None:
        self.exact = True
        self.truncated = False
        self._budget = cap
        self._nodes = _MAX_NODES
        self.value = self._copy(value, 0)

    def _copy(self, value: Any, depth: int) -> Any:
        self._nodes -= 1
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return self._integer(value)
        if kind is float:
            return value if math.isfinite(value) else self._stand_in(str(value))
        if issubclass(kind, str):
            self.exact = self.exact and kind is str
            return self._text(str.__str__(value))
        if issubclass(kind, dict | list | tuple | set | frozenset):
            return self._container(value, kind, depth)
        return self._stand_in(_describe(value, kind))

    def _integer(self, value: int) -> Any:
        if -limits.MAX_INT <= value <= limits.MAX_INT:
            self._budget -= 8
            return value
        return self._stand_in(f"<integer of {value.bit_length()} bits>" if value.bit_length() > 4096 else str(value))

    def _text(self, text: str) -> str:
        room = max(0, self._budget)
        if len(text) > room:
            self.truncated = True
            text = shorten(text[: room + 1], room) if room > 64 else "…"
        self._budget -= len(text) + 2
        clean = clean_text(text)
        if clean != text:
            self.exact = False
        return clean

    def _stand_in(self, text: str) -> str:
        self.exact = False
        return self._text(text)

    def _container(self, value: Any, kind: type, depth: int) -> Any:
        if depth >= _MAX_DEPTH:
            self.truncated = True
            return "…"
        if issubclass(kind, dict):
            self.exact = self.exact and kind is dict
            return self._mapping(value, depth)
        base = next(base for base in (list, tuple, set, frozenset) if issubclass(kind, base))
        self.exact = self.exact and (kind is list or kind is tuple)
        items: list[Any] = []
        for item in base.__iter__(value):
            if self._spent():
                break
            items.append(self._copy(item, depth + 1))
        return items

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, item in dict.items(value):
            if self._spent():
                break
            if type(key) is not str:
                self.exact = False
            name = key if type(key) is str else str(self._copy(key, _MAX_DEPTH))
            copy[self._text(name[: limits.MAX_NAME])] = self._copy(item, depth + 1)
            self.truncated = self.truncated or len(name) > limits.MAX_NAME
        return copy

    def _spent(self) -> bool:
        if self._budget > 0 and self._nodes > 0:
            return False
        self.truncated = True
        return True


def _describe(value: Any, kind: type) -> str:
    if kind in _TIME_TYPES:
        return str(value.isoformat())
    if kind in _TEXT_TYPES:
        return str(value)
    if issubclass(kind, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if issubclass(kind, Enum):
        return f"{kind.__name__}.{value._name_}"
    return f"<{kind.__module__}.{kind.__qualname__}>"


def plain(value: Any, cap: int = limits.MAX_ARGUMENTS) -> Any:
    """Return a bounded JSON copy of ``value`` (see :class:`Copy`), at most about ``cap`` characters long."""
    return Copy(value, cap).value


def arguments(args: Any, kwargs: Any, cap: int = limits.MAX_ARGUMENTS) -> dict[str, Any]:
    """Return the event fields ``args``, ``kwargs``, ``replayable`` and, when it is false, ``replay_reason``."""
    copies = Copy(list(args) if type(args) is tuple else args, cap), Copy(kwargs, cap)
    fields: dict[str, Any] = {"args": copies[0].value, "kwargs": copies[1].value, "replayable": True}
    reason = None
    if any(copy.truncated for copy in copies):
        reason = "arguments truncated"
    elif not all(copy.exact for copy in copies):
        reason = "arguments are not plain JSON values"
    elif not isinstance(fields["args"], list) or not isinstance(fields["kwargs"], dict):
        reason = "arguments not seen"
    if reason is not None:
        fields |= {"replayable": False, "replay_reason": reason}
    return fields
