"""Golden frames: both ends still read and write exactly what was recorded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from z4j_core.errors import ClockSkewError, FrameError, ReplayError, SignatureError
from z4j_core.frames import decode, frame_types
from z4j_core.signing import Binding, Signer, Verifier

from tests.wire.record import GOLDEN, NONCE, SAMPLES, record

FILES = sorted(GOLDEN.glob("*.json"))


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def verifier(golden: dict, **options) -> Verifier:
    return Verifier(
        bytes.fromhex(golden["secret_hex"]),
        Binding(**golden["binding"]),
        clock=options.pop("clock", lambda: golden["clock"]),
    )


def test_every_frame_type_has_a_golden_file():
    assert {load(path)["type"] for path in FILES} == set(frame_types())
    assert {path.stem for path in FILES} == set(SAMPLES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_recorded_bytes_are_still_what_we_write(path):
    assert record(path.stem) == load(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_recorded_bytes_decode_to_the_sample(path):
    golden = load(path)
    frame = decode(golden["document"])
    sample = SAMPLES[path.stem]
    assert dataclasses.replace(frame, ts=sample.ts) == sample
    assert decode({**golden["document"], "surprise": 1}) == frame, "unknown fields are ignored"


@pytest.mark.parametrize("path", [path for path in FILES if load(path)["signed"]], ids=lambda path: path.stem)
def test_the_signature_holds_in_any_spelling_and_fails_for_any_change(path):
    golden = load(path)
    wire = bytes.fromhex(golden["bytes_hex"])
    opened = verifier(golden).open(wire)
    assert (opened.type, opened.seq) == (golden["type"], 1)
    respelled = json.dumps(dict(reversed(golden["document"].items())), indent=2).encode()
    assert verifier(golden).open(respelled).payload() == opened.payload()
    for position in range(0, len(wire), 7):
        changed = bytearray(wire)
        changed[position] ^= 1
        with pytest.raises((SignatureError, FrameError)):
            verifier(golden).open(bytes(changed))


def test_another_session_key_or_time_is_refused():
    golden = load(GOLDEN / "heartbeat.json")
    wire = bytes.fromhex(golden["bytes_hex"])
    for name in ("agent_id", "project_id", "session_id"):
        foreign = {**golden, "binding": {**golden["binding"], name: "0" * 32}}
        with pytest.raises(SignatureError):
            verifier(foreign).open(wire)
    with pytest.raises(SignatureError):
        verifier({**golden, "secret_hex": "00" * 32}).open(wire)
    with pytest.raises(ClockSkewError) as skewed:
        verifier(golden, clock=lambda: golden["clock"] + 3600).open(wire)
    assert skewed.value.skew_seconds == pytest.approx(-3600)


def test_a_repeated_sequence_or_nonce_is_refused():
    golden = load(GOLDEN / "heartbeat.json")
    guard = verifier(golden)
    guard.open(bytes.fromhex(golden["bytes_hex"]))
    with pytest.raises(ReplayError):
        guard.open(bytes.fromhex(golden["bytes_hex"]))
    signer = Signer(
        bytes.fromhex(golden["secret_hex"]),
        Binding(**golden["binding"]),
        clock=lambda: golden["clock"],
        nonce=lambda: NONCE,
    )
    signer.seq = 5
    with pytest.raises(ReplayError, match="nonce"):
        guard.open(signer.seal(SAMPLES["heartbeat"]))
