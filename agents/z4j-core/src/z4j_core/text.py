"""Text that every store and screen can hold: no NUL, no lone surrogate, no endless length."""

from __future__ import annotations

import re
from typing import Any

_BAD = re.compile("[\x00\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Replace NUL by U+2400 and lone surrogates by U+FFFD."""
    if _BAD.search(text) is None:
        return text
    return _BAD.sub(lambda match: "\u2400" if match.group() == "\x00" else "\ufffd", text)


def clean_json(value: Any) -> Any:
    """Apply :func:`clean_text` to every string of a JSON value, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value


def shorten(text: str, cap: int) -> str:
    """Cut ``text`` to ``cap`` characters, saying how many are missing."""
    if len(text) <= cap:
        return text
    note = f"… [{len(text) - cap} more characters]"
    return text[: max(0, cap - len(note))] + note
