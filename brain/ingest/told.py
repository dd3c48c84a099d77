"""What an event's data say: the fields the brain reads, each within its cap.

msgspec checks types and caps while it reads, so that the common event costs no Python; an event that breaks one of
them is read again field by field.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from z4j_core import limits

from brain.projection import NO_CALL

NULL: Final = msgspec.Raw(b"null")
_MAX_ATTEMPT: Final = 2**31 - 2
_MAX_INT32: Final = 2**31 - 1
_MAX_REASON: Final = 255
_REDACTED = re.compile(r"\[redacted|\*{3,}", re.IGNORECASE)
#: What may be a number beyond a double or beyond Python's own reader; inside a string it is none.
_HUGE = re.compile(r"\d[eE][+-]?\d{3}|(?<!\d)\d{400}")

_Name = Annotated[str, Meta(max_length=limits.MAX_NAME)]
_Text = Annotated[str, Meta(max_length=limits.MAX_TEXT)]


class Mark(msgspec.Struct, gc=False):
    """Where an event stands in its agent's stream (wire protocol, additions)."""

    epoch: str = ""
    seq: Annotated[int, Meta(ge=0, le=limits.MAX_INT)] | None = None


class Told(msgspec.Struct, gc=False):
    """An event's data, under the names of the wire (section 2); absent is None, raw JSON is kept as its text."""

    task_name: _Name | None = None
    queue: _Name | None = None
    worker: _Name | None = None
    args: msgspec.Raw = NULL
    kwargs: msgspec.Raw = NULL
    attempt: Annotated[int, Meta(ge=0, le=_MAX_ATTEMPT)] | None = None
    retries: Annotated[int, Meta(ge=0, le=_MAX_ATTEMPT)] | None = None
    eta: Annotated[datetime, Meta(tz=True)] | None = None
    priority: Annotated[int, Meta(ge=-_MAX_INT32, le=_MAX_INT32)] | None = None
    root_task_id: _Name | None = None
    parent_task_id: _Name | None = None
    group_id: _Name | None = None
    retry_of: _Name | None = None
    result: msgspec.Raw = NULL
    runtime_ms: float | None = None
    exception: _Name | None = None
    exception_message: _Text | None = None
    traceback: _Text | None = None
    reason: _Text | None = None
    replayable: bool | None = None
    replay_reason: Annotated[str, Meta(max_length=_MAX_REASON)] | None = None
    _z4j: Mark | None = None

    @property
    def number(self) -> int:
        """The attempt: how many retries came before it."""
        return self.attempt if self.attempt is not None else self.retries or 0

    @property
    def seq(self) -> int | None:
        """The place in the agent's stream."""
        return None if self._z4j is None else self._z4j.seq

    @property
    def ready_at(self) -> datetime | None:
        """The ETA in UTC; None for none, and for one no calendar holds."""
        if self.eta is None or self.eta.tzinfo is UTC:
            return self.eta
        try:
            return self.eta.astimezone(UTC)
        except OverflowError:
            return None

    @property
    def run_ms(self) -> int | None:
        """Run time in milliseconds, as the engine told it."""
        return None if self.runtime_ms is None else int(min(max(self.runtime_ms, 0.0), 2**53))

    @property
    def call(self) -> tuple[int, str, str, str]:
        """Arguments and whether they can be used again; see :class:`brain.projection.Facts`."""
        if self.args is NULL and self.kwargs is NULL and self.replayable is None:
            return NO_CALL
        return _call(self)

    @property
    def output(self) -> str:
        """The result as text: a JSON string is its content, anything else its JSON."""
        raw = bytes(self.result)
        if raw == b"null":
            return ""
        text = msgspec.json.decode(raw) if raw[:1] == b'"' else raw.decode()
        return str(text)[: limits.MAX_TEXT]

    @property
    def error(self) -> tuple[str, str, str]:
        """Traceback, message, exception class."""
        return (self.traceback or "", self.exception_message or self.reason or "", self.exception or "")


def _call(told: Told) -> tuple[int, str, str, str]:
    args, kwargs = bytes(told.args).decode(), bytes(told.kwargs).decode()
    if args == "null" and kwargs == "null":
        return (0, "", "", "" if told.replayable is not False else told.replay_reason or "")
    args, kwargs = ("" if text == "null" else text for text in (args, kwargs))
    replayable, reason = told.replayable, told.replay_reason or ""
    if replayable is None:
        # Agents that do not say so: whole lists and objects without a redaction mark are what was sent.
        whole = (not args or args[0] == "[") and (not kwargs or kwargs[0] == "{")
        marked = _REDACTED.search(args) or _REDACTED.search(kwargs)
        replayable = whole and not marked
        reason = "" if replayable else "the arguments are redacted" if marked else "the arguments are not complete"
    if replayable and not (_survives(args) and _survives(kwargs)):
        replayable, reason = False, "the arguments hold a number that cannot be sent again as it was"
    return (2 if replayable else 1, args, kwargs, "" if replayable else reason)


def _survives(text: str) -> bool:
    """Tell whether arguments can be read and written again."""
    if _HUGE.search(text) is None:
        return True
    try:
        json.dumps(json.loads(text), allow_nan=False)
    except ValueError:
        return False
    return True


_decoder = msgspec.json.Decoder(Told)
_FIELDS = {field.encode_name: field.type for field in msgspec.structs.fields(Told)}
_CAPPED = frozenset({"exception_message", "traceback", "reason"})
_NUMBERS = frozenset({"attempt", "retries", "priority"})


def read(raw: msgspec.Raw | bytes) -> Told:
    """Return what the JSON of an event's data says. A field of a wrong type counts as absent.

    Raises ``msgspec.DecodeError`` for what is not JSON.
    """
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError:
        return _lenient(raw)


def _lenient(raw: msgspec.Raw | bytes) -> Told:
    document = msgspec.json.decode(raw)
    kept: dict[str, Any] = {}
    if isinstance(document, dict):
        for name, value in document.items():
            if name in _FIELDS and value is not None:
                kept[name] = _fitted(name, value)
    return Told(**{name: value for name, value in kept.items() if value is not None})


def _fitted(name: str, value: Any) -> Any:
    """Return a field's value brought within its cap; None when it has no right type at all."""
    wanted = _FIELDS[name]
    if wanted is msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(value))
    if isinstance(value, str) and name != "eta":
        value = value[: limits.MAX_TEXT] if name in _CAPPED else clip(value, _cap(name))
    elif name in _NUMBERS and isinstance(value, int) and not isinstance(value, bool):
        value = min(max(value, -_MAX_INT32 if name == "priority" else 0), _MAX_ATTEMPT)
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return _zoned(value) if name == "eta" else None


def _cap(name: str) -> int:
    return _MAX_REASON if name == "replay_reason" else limits.MAX_NAME


def _zoned(value: Any) -> datetime | None:
    """Return a time without a zone as one of UTC."""
    try:
        moment = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def clip(text: str | None, cap: int = limits.MAX_NAME) -> str:
    """Cut a name to ``cap`` characters; a cut one ends in a hash of the whole, so two long names stay two."""
    if not text:
        return ""
    if len(text) <= cap:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
    return f"{text[: cap - len(digest) - 1]}~{digest}"
