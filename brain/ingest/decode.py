"""From the bytes of an ``event_batch`` payload to the events in it, each judged alone.

msgspec reads only what the brain needs; the event's data stay the JSON text the agent sent.
"""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from z4j_core import limits
from z4j_core.errors import FrameError
from z4j_core.frames import check_depth

from brain.event_ids import EventIds
from brain.ingest.told import Told, clip, read

#: Escapes for what one of the databases cannot hold: NUL, and halves of a character. The first finds out whether there
#: is any; the second takes escaped backslashes and whole pairs out of the way first.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(
    rb"(?:\\\\)+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_NUL, _HALF, _ESCAPE_LENGTH = "\u2400".encode(), "\ufffd".encode(), 6
_FUTURE = timedelta(hours=1)
_DAY = timedelta(days=1)
#: As far ahead as there are partitions for certain.
_AHEAD = 6 * _DAY
#: Arrays and objects in one event: its nesting is looked at bracket by bracket.
MAX_BRANCHES = 10_000
_MAX_KIND, _MAX_ENGINE = 64, 32


class _Wire(msgspec.Struct, gc=False):
    id: str
    kind: str
    engine: str
    occurred_at: datetime
    task_id: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Batch(msgspec.Struct):
    events: list[_Wire]


class _Texts(msgspec.Struct):
    events: list[msgspec.Raw]


_batch = msgspec.json.Decoder(_Batch)
_texts = msgspec.json.Decoder(_Texts)
_wire = msgspec.json.Decoder(_Wire)


class Incoming(msgspec.Struct, gc=False):
    """One event, ready to be stored; ``id`` is 32 hexadecimal digits, ``payload`` the JSON text of its data."""

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


_Outcome = tuple[list[Incoming], list[Rejected]]
_REFUSALS = (msgspec.DecodeError, FrameError, RecursionError, OverflowError, ValueError)


def decode_batch(payload_json: bytes, *, project_id: UUID, now: datetime, retention_days: int) -> _Outcome:
    """Return the events of a batch and those that cannot be stored.

    Raises :class:`z4j_core.errors.FrameError` when the payload is not a batch at all.
    """
    decoder = _Decoder(EventIds(project_id), now, _midnight(now) - retention_days * _DAY)
    if _SUSPECT.search(payload_json) is not None:
        payload_json = _ESCAPE.sub(_replacement, payload_json)
    try:
        payload_json.decode("utf-8")  # msgspec does not check the parts it only passes on
        events = _batch.decode(payload_json).events
        _check_count(len(events))
        return [decoder.incoming(event) for event in events], []
    except _REFUSALS:
        # Something in it needs a closer look, event by event.
        return decoder.each(_split(payload_json))


def _replacement(escape: re.Match[bytes]) -> bytes:
    found = escape.group()
    if len(found) != _ESCAPE_LENGTH:
        return found
    return _NUL if found == b"\\u0000" else _HALF


def _check_count(count: int) -> None:
    if count > limits.MAX_BATCH_EVENTS:
        raise FrameError(f"event_batch has more than {limits.MAX_BATCH_EVENTS} events")


def _split(payload_json: bytes) -> list[str]:
    """Return the JSON text of each event of a batch. Raises :class:`FrameError`."""
    try:
        texts = [bytes(raw).decode("utf-8") for raw in _texts.decode(payload_json).events]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        texts = _split_leniently(payload_json, error)
    _check_count(len(texts))
    return texts


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
    """Read an integer; one of more digits than Python bears becomes infinite, which costs its event."""
    try:
        return int(digits)
    except ValueError:
        return float("inf")


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


class _Decoder:
    """Turns the events of one batch into what is stored."""

    def __init__(self, ids: EventIds, now: datetime, earliest: datetime) -> None:
        self._ids = ids
        self._now = now
        self._earliest = earliest
        self._latest = now + _FUTURE

    def each(self, texts: list[str]) -> _Outcome:
        """Return the events of texts and the rejected ones."""
        accepted: list[Incoming] = []
        rejected: list[Rejected] = []
        for text in texts:
            try:
                check_depth(text)
                accepted.append(self.incoming(_wire.decode(text)))
            except _REFUSALS as error:
                rejected.append(Rejected(str(error)[:500], text))
        return accepted, rejected

    def incoming(self, event: _Wire) -> Incoming:
        """Return what is stored of an event. Raises one of the refusals."""
        kind, engine, task_id = event.kind, event.engine, event.task_id or ""
        if not event.id or not kind or not engine:
            raise FrameError("an event needs id, kind and engine")
        occurred_at, flags = event.occurred_at, ""
        kept_at = occurred_at
        if occurred_at.tzinfo is not UTC or not self._earliest <= occurred_at <= self._latest:
            occurred_at, kept_at, flags = self._moments(occurred_at)
        payload = bytes(event.data).decode()
        branches = payload.count("{") + payload.count("[")
        if branches > limits.MAX_DEPTH:
            if branches > MAX_BRANCHES:
                raise FrameError(f"an event has more than {MAX_BRANCHES} arrays and objects")
            check_depth(payload)
        return Incoming(
            self._ids.of(f"{event.id}\0{kind}\0{engine}\0{task_id}", kept_at),
            kind if len(kind) <= _MAX_KIND else clip(kind, _MAX_KIND),
            engine if len(engine) <= _MAX_ENGINE else clip(engine, _MAX_ENGINE),
            task_id if len(task_id) <= limits.MAX_TASK_ID else clip(task_id, limits.MAX_TASK_ID),
            occurred_at,
            flags,
            read(event.data),
            payload if payload[0] == "{" else '{"value":' + payload + "}",
        )

    def _moments(self, occurred_at: datetime) -> tuple[datetime, datetime, str]:
        """Return the time of an event in UTC, the time it is kept under, and what is odd about it.

        What is told of a task is the time as sent, so that an event sent again says the same whenever it comes. Kept it
        is in a partition there is: a clamped time keeps to the day, and so does the event that comes again within it.
        """
        flags = ""
        if occurred_at.tzinfo is None:
            occurred_at, flags = occurred_at.replace(tzinfo=UTC), "no-zone"
        else:
            occurred_at = occurred_at.astimezone(UTC)
        if occurred_at < self._earliest:
            return occurred_at, self._earliest, "clock-behind"
        if occurred_at > self._latest:
            return occurred_at, min(occurred_at, _midnight(self._now) + _AHEAD), "clock-ahead"
        return occurred_at, occurred_at, flags
