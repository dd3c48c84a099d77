"""From the bytes of an ``event_batch`` payload to the events in it, each judged alone.

msgspec reads only what the brain needs; the event's data stay the text the agent sent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from z4j_core import limits
from z4j_core.errors import FrameError
from z4j_core.frames import check_depth, parse_json
from z4j_core.text import clean_json

from brain.event_ids import event_id

#: What one of the databases, or Python, may not be able to hold: NUL and surrogate escapes, numbers far out of range.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|[:,\[\s]-?\d[\d.]*[eE][+-]?\d{3}|\d{400}")
_MAX_DIGITS = 400
_REDACTED = re.compile(r"\[redacted|\*{3,}", re.IGNORECASE)
_FUTURE = timedelta(hours=1)
_DAY = timedelta(days=1)


class _Batch(msgspec.Struct):
    events: list[msgspec.Raw]


class _Wire(msgspec.Struct):
    id: str
    kind: str
    engine: str
    occurred_at: datetime
    task_id: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Mark(msgspec.Struct):
    epoch: str = ""
    seq: int | None = None


class _Data(msgspec.Struct):
    task_name: str | None = None
    queue: str | None = None
    worker: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"null")
    kwargs: msgspec.Raw = msgspec.Raw(b"null")
    attempt: int | None = None
    retries: int | None = None
    eta: datetime | None = None
    priority: int | None = None
    root_task_id: str | None = None
    parent_task_id: str | None = None
    group_id: str | None = None
    retry_of: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    runtime_ms: float | None = None
    exception: str | None = None
    exception_message: str | None = None
    traceback: str | None = None
    reason: str | None = None
    replayable: bool | None = None
    replay_reason: str | None = None
    _z4j: _Mark | None = None


_batch = msgspec.json.Decoder(_Batch)
_wire = msgspec.json.Decoder(_Wire)
_data = msgspec.json.Decoder(_Data)
_OPTIONAL = {name: field for name, field in zip(_Data.__struct_fields__, msgspec.structs.fields(_Data), strict=True)}


@dataclasses.dataclass(slots=True)
class Told:
    """What an event's data say, in the brain's words and within its caps; absent is empty or None."""

    name: str
    queue: str
    worker: str
    attempt: int
    priority: int | None
    eta: datetime | None
    call: tuple[int, str, str, str]
    root_task_id: str
    parent_task_id: str
    group_id: str
    retry_of: str
    run_ms: int | None
    result: str
    error: tuple[str, str, str]
    seq: int | None


@dataclasses.dataclass(slots=True)
class Incoming:
    """One event, ready to be stored."""

    id: str
    kind: str
    engine: str
    task_id: str
    occurred_at: datetime
    flags: str
    told: Told
    payload: str


@dataclasses.dataclass(slots=True)
class Rejected:
    """One event that cannot be stored, and why."""

    reason: str
    content: str


def clip(text: str | None, cap: int = limits.MAX_NAME) -> str:
    """Cut a name to ``cap`` characters; a cut one ends in a hash of the whole, so two long names stay two."""
    if not text:
        return ""
    if len(text) <= cap:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
    return f"{text[: cap - len(digest) - 1]}~{digest}"


def decode_batch(
    payload_json: bytes, *, project_id: UUID, now: datetime, retention_days: int
) -> tuple[list[Incoming], list[Rejected]]:
    """Return the events of a batch and those that cannot be stored.

    Raises :class:`z4j_core.errors.FrameError` when the payload is not a batch at all.
    """
    texts = _split(payload_json)
    if len(texts) > limits.MAX_BATCH_EVENTS:
        raise FrameError(f"event_batch has more than {limits.MAX_BATCH_EVENTS} events")
    earliest = _midnight(now) - retention_days * _DAY
    accepted: list[Incoming] = []
    rejected: list[Rejected] = []
    for text in texts:
        try:
            accepted.append(_decode_event(_storable(text), project_id, now, earliest))
        except (msgspec.DecodeError, FrameError, RecursionError, OverflowError, ValueError) as error:
            rejected.append(Rejected(str(error)[:500], text))
    return accepted, rejected


def _split(payload_json: bytes) -> list[str]:
    """Return the JSON text of each event of a batch."""
    try:
        return [bytes(raw).decode("utf-8") for raw in _batch.decode(payload_json).events]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _split_leniently(payload_json, error)


def _split_leniently(payload_json: bytes, refusal: Exception) -> list[str]:
    """Do the same for what msgspec refuses as a whole, so that one bad event does not take its neighbours along."""
    try:
        document = json.loads(payload_json.decode("utf-8", "replace"), parse_int=_integer, parse_constant=float)
        events = document["events"]
        if not isinstance(events, list):
            raise TypeError("events is not an array")
        return [json.dumps(event, ensure_ascii=True) for event in events]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise FrameError(f"event_batch: {refusal}") from refusal


def _integer(digits: str) -> int | float:
    """Read an integer; one of more digits than anything holds becomes infinite, which costs its event."""
    return int(digits) if len(digits) < _MAX_DIGITS else float("inf")


def _storable(text: str) -> str:
    """Return the text of one event as both databases can hold it. Raises :class:`FrameError` or ``ValueError``."""
    check_depth(text)
    if _SUSPECT.search(text) is None:
        return text
    # A number beyond a double becomes infinite here, which is no JSON: the event is refused, and only this one.
    return json.dumps(clean_json(parse_json(text)), ensure_ascii=False, allow_nan=False)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _decode_event(text: str, project_id: UUID, now: datetime, earliest: datetime) -> Incoming:
    event = _wire.decode(text)
    if not event.id or not event.kind or not event.engine:
        raise FrameError("an event needs id, kind and engine")
    occurred_at, flags = event.occurred_at, ""
    if occurred_at.tzinfo is None:
        occurred_at, flags = occurred_at.replace(tzinfo=UTC), "no-zone"
    elif occurred_at.tzinfo is not UTC:
        occurred_at = occurred_at.astimezone(UTC)
    # A clamped key keeps to the day, so that the event sent again within it is still the same event.
    if occurred_at < earliest:
        occurred_at, flags = earliest, "clock-behind"
    elif occurred_at > now + _FUTURE:
        occurred_at, flags = _midnight(now), "clock-ahead"
    payload = bytes(event.data).decode("utf-8")
    return Incoming(
        id=event_id(project_id, event.id, occurred_at),
        kind=clip(event.kind, 64),
        engine=clip(event.engine, 32),
        task_id=clip(event.task_id, limits.MAX_TASK_ID),
        occurred_at=occurred_at,
        flags=flags,
        told=_told(event.data),
        payload=payload if payload.startswith("{") else '{"value":' + payload + "}",
    )


def _told(raw: msgspec.Raw) -> Told:
    try:
        data = _data.decode(raw)
    except msgspec.ValidationError:
        data = _lenient(raw)
    attempt = data.attempt if data.attempt is not None else data.retries
    mark = data._z4j
    return Told(
        name=clip(data.task_name),
        queue=clip(data.queue),
        worker=clip(data.worker),
        attempt=min(max(attempt or 0, 0), 2**31 - 2),
        priority=_small(data.priority),
        eta=_aware(data.eta),
        call=_call(data),
        root_task_id=clip(data.root_task_id),
        parent_task_id=clip(data.parent_task_id),
        group_id=clip(data.group_id),
        retry_of=clip(data.retry_of),
        run_ms=None if data.runtime_ms is None else int(min(max(data.runtime_ms, 0.0), 2**53)),
        result=_text(data.result),
        error=(
            (data.traceback or "")[: limits.MAX_TEXT],
            (data.exception_message or data.reason or "")[: limits.MAX_TEXT],
            clip(data.exception),
        ),
        seq=None if mark is None or mark.seq is None else min(max(mark.seq, 0), limits.MAX_INT),
    )


def _lenient(raw: msgspec.Raw) -> _Data:
    """Keep the fields that have the right type; a wrong one is treated as absent, and stays in the payload."""
    document = msgspec.json.decode(raw)
    kept: dict[str, Any] = {}
    if isinstance(document, dict):
        for name, value in document.items():
            field = _OPTIONAL.get(name)
            if field is None:
                continue
            try:
                kept[name] = (
                    msgspec.Raw(msgspec.json.encode(value))
                    if field.type is msgspec.Raw
                    else msgspec.convert(value, field.type)
                )
            except msgspec.ValidationError:
                continue
    return _Data(**kept)


def _call(data: _Data) -> tuple[int, str, str, str]:
    args, kwargs = bytes(data.args).decode(), bytes(data.kwargs).decode()
    if args == "null" and kwargs == "null":
        return (0, "", "", "" if data.replayable is not False else (data.replay_reason or "")[:255])
    args, kwargs = ("" if text == "null" else text for text in (args, kwargs))
    replayable, reason = data.replayable, data.replay_reason or ""
    if replayable is None:
        # Agents that do not say so: whole lists and objects without a redaction mark are what was sent.
        whole = (not args or args[0] == "[") and (not kwargs or kwargs[0] == "{")
        marked = _REDACTED.search(args) or _REDACTED.search(kwargs)
        replayable = whole and not marked
        reason = "" if replayable else "the arguments are redacted" if marked else "the arguments are not complete"
    return (2 if replayable else 1, args, kwargs, "" if replayable else reason[:255])


def _text(raw: msgspec.Raw) -> str:
    """Return a result as text: a JSON string is its content, anything else its JSON."""
    if bytes(raw) == b"null":
        return ""
    value = msgspec.json.decode(raw)
    return (value if isinstance(value, str) else bytes(raw).decode())[: limits.MAX_TEXT]


def _aware(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _small(value: int | None) -> int | None:
    return None if value is None else min(max(value, -(2**31)), 2**31 - 1)
