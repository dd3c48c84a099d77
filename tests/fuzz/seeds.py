"""Where fuzzing begins: the golden frames, hostile values, and the found cases."""

from __future__ import annotations

import json
from pathlib import Path

from z4j_core.signing import canonical

from tests.wire.record import GOLDEN
from tests.wire.test_hostile_frames import HELLO_PLACES, PLACES, VALUES, fill

HERE = Path(__file__).parent
DICTIONARY = HERE / "frames.dict"
#: An event's data with all that the brain reads of them.
TELLING = {
    "task_name": "shop.pay", "queue": "mail", "worker": "w1", "args": [1, "a"], "kwargs": {"b": 2.5}, "attempt": 1,
    "retries": 1, "eta": "2026-09-21T13:34:20+02:00", "priority": 3, "root_task_id": "r", "parent_task_id": "p",
    "group_id": "g", "retry_of": "o", "result": {"c": [None]}, "runtime_ms": 12.5, "exception": "OSError",
    "exception_message": "no", "traceback": "at", "reason": "x", "replayable": True, "replay_reason": "",
    "_z4j": {"epoch": "e", "seq": 7},
}  # fmt: skip
#: Inputs that once got past the readers, one a file, as the fuzzer wrote them.
CASES = HERE / "cases"
#: The values put into every place; the others stand for themselves.
PLACED = ("nul", "lone-surrogate", "overflow", "int-65-bit", "duplicate-keys", "json-in-string", "fraction")


def _long_names() -> bytes:
    """Return a batch whose every name is longer than its column."""
    data = {key: key * 60 for key in ("task_name", "queue", "worker", "root_task_id", "exception", "replay_reason")}
    event = {"id": "i" * 300, "kind": "k" * 300, "engine": "e" * 300, "task_id": "t" * 300, "data": data}
    known = {**event, "kind": "task.failed", "engine": "rq"}
    moment = {"occurred_at": "2026-09-21T13:33:20Z"}
    return canonical({"events": [event | moment, known | moment]})


def payloads() -> list[bytes]:
    """Return the payload of every golden frame."""
    return [canonical(json.loads(path.read_text())["document"]["payload"]) for path in sorted(GOLDEN.glob("*.json"))]


def seeds(longest: int) -> list[bytes]:
    """Return what to begin with, none longer than ``longest`` bytes."""
    wires = [bytes.fromhex(json.loads(path.read_text())["bytes_hex"]) for path in sorted(GOLDEN.glob("*.json"))]
    filled = [
        fill(place, VALUES[name]) for places in (*PLACES.values(), HELLO_PLACES) for place in places for name in PLACED
    ]
    found = [path.read_bytes() for path in sorted(CASES.glob("*.bin"))]
    return [
        seed
        for seed in (*wires, canonical(TELLING), _long_names(), *payloads(), *VALUES.values(), *filled, *found)
        if len(seed) <= longest
    ]
