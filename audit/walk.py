"""Verification of one chain as a function of its rows. Pure: no clock, database or file."""

from __future__ import annotations

import dataclasses
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

from audit.chain import GENESIS, VERSION, canonical, first_digest, next_digest
from audit.statements import Point

#: seq, key id, mac, body, and with ``deep`` the columns at, actor, action, target, outcome.
Row = tuple[object, ...]
#: Lengths the filter columns are cut to: actor, action, target, outcome.
COLUMN_LENGTHS = {"actor": 254, "action": 64, "target": 320, "outcome": 16}

#: What each kind of finding means; docs/concepts/audit.md lists the same.
KINDS: dict[str, str] = {
    "mac": "an entry is not what was written: body, mac or place was changed",
    "gap": "an entry is missing",
    "order": "an entry is there twice or in the wrong place",
    "key": "an entry names another key, and no entry before it announces one",
    "truncated": "entries are missing at the end, or the whole chain",
    "rewritten": "the chain contradicts a signed checkpoint",
    "head": "the head of the chain is not its last entry",
    "column": "a filter column is not what the entry says",
    "text": "the text of an entry is not canonical",
    "signature": "a checkpoint, carry or anchor is not signed by this brain",
    "checkpoint": "a stored checkpoint is missing or in the wrong place",
    "trigger": "what refuses changes in the database is missing or was changed",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, where first. ``seq`` is None when it is not about an entry."""

    kind: str
    seq: int | None
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Unverifiable:
    """From ``seq`` on nothing can be said, for the key is not known."""

    seq: int
    key_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to verify against: where the chain starts, the keys, what was signed, and how deep to look.

    ``anchors`` are the points that must lie on the chain, by size. ``digests`` asks for the public digest, which points
    are then compared by too; ``deep`` for the columns and the text.
    """

    start: Point
    keys: Mapping[str, bytes]
    anchors: Mapping[int, list[Point]] = dataclasses.field(default_factory=dict)
    digests: bool = False
    deep: bool = False


@dataclasses.dataclass(slots=True)
class Walked:
    """How far a walk came: the last good place, and what stopped it."""

    size: int
    head: bytes
    digest: bytes
    key_id: str = ""
    stopped: Finding | Unverifiable | None = None


def beginning(chain: UUID) -> Point:
    """Return the start of a chain nothing was pruned from."""
    return Point(chain, 0, GENESIS, first_digest(chain))


def walk(plan: Plan, rows: Iterable[Row]) -> Walked:
    """Verify rows in their order, to the first that is wrong. Never raises for what a row holds."""
    at = Walked(plan.start.size, plan.start.head, plan.start.digest)
    at.stopped = _anchored(plan, at)
    if at.stopped is None:
        _follow(plan, rows, at)
    return at


def _follow(plan: Plan, rows: Iterable[Row], at: Walked) -> None:
    prefix, digest, anchors = VERSION + plan.start.chain.bytes, hmac.digest, plan.anchors
    inspect = _inspector(plan)
    key_bytes, key, announced = b"", b"", None
    size, head = at.size, at.head
    for seq, key_id, mac, body, *columns in rows:
        expected = size + 1
        if seq != expected or type(body) is not bytes or type(mac) is not bytes:
            at.stopped = _misplaced(expected, seq)
            return
        if key_id != key_bytes:
            found = _change_key(plan, expected, key_id, announced if size > plan.start.size else None)
            if not isinstance(found, bytes):
                at.stopped = found
                return
            key, key_bytes, at.key_id = found, key_id, key_id.decode()  # type: ignore[assignment,attr-defined]
        head_now = digest(key, prefix + expected.to_bytes(8, "big") + head + body, "sha256")
        if head_now != mac:
            at.stopped = Finding("mac", expected, KINDS["mac"])
            return
        announced, size, head = body, expected, head_now
        at.size, at.head = size, head
        if inspect is not None and (wrong := inspect(at, key_bytes, body, columns)) is not None:
            at.stopped = wrong
            return
        if size in anchors and (wrong := _anchored(plan, at)) is not None:
            at.stopped = wrong
            return


def _inspector(plan: Plan) -> Callable[[Walked, bytes, bytes, list[object]], Finding | None] | None:
    if not (plan.digests or plan.deep):
        return None

    def inspect(at: Walked, key_id: bytes, body: bytes, columns: list[object]) -> Finding | None:
        if plan.digests:
            at.digest = next_digest(at.digest, at.size, at.head, key_id, body)
        return compare(at.size, body, columns) if plan.deep else None

    return inspect


def _misplaced(expected: int, seq: object) -> Finding:
    if not isinstance(seq, int) or seq < expected:
        return Finding("order", expected, f"{KINDS['order']} (found {seq!r})")
    if seq > expected:
        return Finding("gap", expected, f"{KINDS['gap']} (found {seq})")
    return Finding("mac", expected, KINDS["mac"])


def _change_key(plan: Plan, seq: int, key_id: object, announced: bytes | None) -> bytes | Finding | Unverifiable:
    """Return the key of an entry that names another one than the entry before it."""
    name = key_id.decode("ascii", "replace") if isinstance(key_id, bytes) else repr(key_id)
    if announced is not None and announces(announced) != name:
        return Finding("key", seq, KINDS["key"])
    return plan.keys[name] if name in plan.keys else Unverifiable(seq, name)


def announces(body: bytes) -> str | None:
    """Return the key that an entry says the next ones are written with, if it says so."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("action") != "key.rotate":
        return None
    detail = fields.get("detail")
    return str(detail.get("key_id")) if isinstance(detail, dict) else None


def _anchored(plan: Plan, at: Walked) -> Finding | None:
    for point in plan.anchors.get(at.size, ()):
        if point.head != at.head or (plan.digests and point.digest != at.digest):
            return Finding("rewritten", at.size, KINDS["rewritten"])
    return None


def compare(seq: int, body: bytes, columns: list[object]) -> Finding | None:
    """Compare an entry's columns with its text: at, actor, action, target, outcome."""
    try:
        text = body.decode()
        fields = json.loads(text)
        if canonical(fields) != text:
            return Finding("text", seq, KINDS["text"])
        # To the millisecond: Django's JSON dumps, which people move databases with, keep no more.
        told = [fields["at"].replace("T", " ")[:23], *(fields[name][:cut] for name, cut in COLUMN_LENGTHS.items())]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Finding("text", seq, KINDS["text"])
    return None if told == columns else Finding("column", seq, KINDS["column"])
