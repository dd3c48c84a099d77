"""What fuzzed bytes are given to, and what must hold of all that is accepted. Needs Django set up, no database."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from z4j_core import limits
from z4j_core.errors import FrameError, SignatureError
from z4j_core.frames import check_envelope, decode, decode_payload, encode, frame_types, parse_json
from z4j_core.signing import Signer, Verifier, canonical
from z4j_core.text import clean_json

from brain.gateway import content
from brain.histogram import bucket_of
from brain.ingest import Batch, Source
from brain.ingest.decode import Incoming
from brain.ingest.rows import EVENT_COLUMNS, TASK_COLUMNS, task_row
from brain.ingest.store import statements_of
from brain.projection import contributions
from tests.wire.record import BINDING, CLOCK, NONCE, SECRET

#: CPU seconds one input may take, of any length the wire allows.
GUARD = 1.0
NOW = datetime.fromtimestamp(CLOCK, UTC)
#: A key nobody signed the seeds with.
OTHER_SECRET = bytes(32)
SOURCE = Source(UUID(int=1), UUID(int=2))
_SQLITE, _POSTGRESQL = statements_of("sqlite"), statements_of("postgresql")
csv.field_size_limit(64 * limits.MIB)
_GOOD = (
    b'{"id":"%s","kind":"task.sent","engine":"celery","task_id":"%s","occurred_at":"2026-09-21T13:33:20Z","data":{}}'
)
_AROUND = b'{"id":"m","kind":"task.failed","engine":"rq","task_id":"m","occurred_at":"2026-09-21T13:33:20Z","data":%s}'
#: Widths of the columns that have one, and the bounds of those that are numbers.
_WIDTHS = {
    "kind": 64, "engine": 32, "task_id": 255, "name": 255, "queue": 255, "worker": 255, "root_task_id": 255,
    "parent_task_id": 255, "group_id": 255, "retry_of": 255, "exception": 255, "replay_reason": 255, "flags": 64,
}  # fmt: skip
_INT32 = {"priority", "attempt", "retries"}


def check(data: bytes) -> None:
    """Give bytes to every reader of what a peer sends. Raises whatever is wrong with what they do."""
    began = time.process_time()
    _frame(data)
    _unsigned(data)
    for kind in ("event_batch", "heartbeat"):
        _signed(kind, data)
    _payload(data)
    _events(data)
    _between_neighbours(data)
    took = time.process_time() - began
    assert took <= GUARD, f"{len(data)} bytes took {took:.1f} s"


def _frame(data: bytes) -> None:
    """A frame without a signature, such as ``hello``."""
    try:
        document = parse_json(data)
    except FrameError:
        return
    assert depth(document) <= limits.MAX_DEPTH
    _read_again(document)
    try:
        frame = decode(document)
    except FrameError:
        return
    assert frame.type == check_envelope(document)
    try:
        text = canonical(encode(frame))
    except FrameError:
        return  # halves of characters, and numbers beyond a double
    assert decode(parse_json(text, max_bytes=8 * len(data) + 4096)) == frame


def _read_again(document: dict[str, Any]) -> None:
    try:
        text = canonical(document)
    except FrameError:
        return
    assert parse_json(text, max_bytes=2**31) == document


def _unsigned(data: bytes) -> None:
    try:
        Verifier(OTHER_SECRET, BINDING, clock=lambda: CLOCK).open(data)
    except (FrameError, SignatureError):
        return
    raise AssertionError("a frame nobody signed was verified")


def _signed(kind: str, data: bytes) -> None:
    """A frame with a valid signature around any payload: what is opened is what was signed."""
    sealed = Signer(SECRET, BINDING, clock=lambda: CLOCK, nonce=lambda: NONCE).seal_raw(kind, "id-1", data)
    try:
        opened = Verifier(SECRET, BINDING, clock=lambda: CLOCK).open(sealed)
    except (FrameError, SignatureError):
        return
    assert (opened.type, opened.id, opened.seq) == (kind, "id-1", 1)
    assert opened.payload_json == data or json.loads(opened.payload_json) == json.loads(data)


def _payload(data: bytes) -> None:
    """The payload of every frame but events."""
    try:
        document = content.parse(data)
    except FrameError:
        return
    assert depth(document) <= limits.MAX_DEPTH
    for value in walk(document):
        assert not isinstance(value, float) or math.isfinite(value)
        assert not isinstance(value, int) or -limits.MAX_INT - 1 <= value <= limits.MAX_INT
    clean = clean_json(document)
    text = canonical(clean)
    assert b"\x00" not in text
    assert b"\\u0000" not in text.replace(b"\\\\", b"")
    assert parse_json(text, max_bytes=2**31) == clean
    for kind in frame_types():
        try:
            decode_payload(kind, "id-1", None, document)
        except FrameError:
            continue


def _events(data: bytes) -> Batch:
    """An event batch, up to the rows that go to either database."""
    batch = Batch(SOURCE, 30, data, NOW)
    batch.prepare(_POSTGRESQL)
    prepared = batch.prepared
    assert prepared is not None
    assert batch.verdict.received == batch.verdict.accepted + batch.verdict.rejected
    for event in batch.accepted:
        _stored(event)
        line = prepared.rows[event.id]
        (fields,) = csv.reader(io.StringIO(line, newline=""), delimiter="\x1f", quotechar="\x1e", strict=True)
        assert len(fields) == len(EVENT_COLUMNS)
        _fits(dict(zip(EVENT_COLUMNS, _SQLITE.event_row(SOURCE, event, ""), strict=True)))
    for key, facts in prepared.told.items():
        _fits(dict(zip(TASK_COLUMNS, task_row(key, facts, NOW, 1), strict=True)))
        for *_, bucket in contributions(facts):
            assert 0 <= bucket <= bucket_of(2**53)
    return batch


def _stored(event: Incoming) -> None:
    """What is kept of an event's data is JSON that anyone can read, of the depth of the wire."""
    document = json.loads(event.payload, parse_int=str, parse_float=str, parse_constant=_no_constant)
    assert isinstance(document, dict)
    assert depth(document) <= limits.MAX_DEPTH + 1
    for value in walk(document):
        if isinstance(value, str):
            assert_text(value)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} was taken for JSON")


def _fits(row: dict[str, Any]) -> None:
    """Every value fits into its column."""
    for column, value in row.items():
        if isinstance(value, str):
            assert_text(value)
            assert len(value) <= _WIDTHS.get(column, 2**30), column
        elif isinstance(value, int):
            bound = 2**31 if column in _INT32 else 2**63
            assert -bound <= value < bound, column
        elif isinstance(value, datetime):
            assert value.utcoffset() is not None


def _between_neighbours(data: bytes) -> None:
    """Bytes as the data of one event cost that event at the most, if they are JSON at all."""
    batch = _events(b'{"events":[%b,%b,%b]}' % (_GOOD % (b"1", b"t1"), _AROUND % data, _GOOD % (b"2", b"t2")))
    if _is_json(data):
        assert batch.verdict.received == 3
        assert {"t1", "t2"} <= {event.task_id for event in batch.accepted}


def _is_json(data: bytes) -> bool:
    try:
        document = json.loads(data.decode(), parse_int=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return depth(document) < limits.MAX_DEPTH - 3


def _refuse(name: str) -> None:
    raise ValueError(name)


def assert_text(value: str) -> None:
    """Fail for text that a database cannot hold."""
    assert "\x00" not in value
    value.encode("utf-8")


def depth(document: Any) -> int:
    """Return how deep arrays and objects are nested."""
    deepest, level = 0, [document]
    while level := [value for value in level if isinstance(value, dict | list)]:
        deepest += 1
        level = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]
    return deepest


def walk(document: Any) -> list[Any]:
    """Return every key and value in a document that holds no others."""
    found, waiting = [], [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found += value.keys()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        else:
            found.append(value)
    return found


def stretched(data: bytes, size: int) -> bytes:
    """Return the bytes with their middle repeated up to ``size``, to find what takes more than linear time."""
    third = len(data) // 3
    middle = data[third : 2 * third] or b"["
    return data[:third] + middle * ((size - len(data)) // len(middle)) + data[2 * third :]
