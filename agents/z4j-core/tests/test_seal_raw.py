from __future__ import annotations

import hmac
import json

import pytest
from z4j_core.errors import FrameError, SignatureError
from z4j_core.frames import EventBatch, encode
from z4j_core.signing import Binding, Signer, Verifier, canonical, derive_secret

BINDING = Binding("agent", "project", "session")
SECRET = derive_secret("token")


def test_a_sealed_frame_is_canonical_and_signed_over_all_of_it() -> None:
    frame = EventBatch(id='a "b" \\', events=({"id": "1", "data": {"ü": [1.0, None]}},))
    raw = Signer(SECRET, BINDING, clock=lambda: 1.7e9, nonce=lambda: "nonce").seal(frame)
    document = json.loads(raw)
    assert canonical(document) == raw
    signature = document.pop("hmac")
    envelope = canonical(document | BINDING.fields())
    assert signature == hmac.digest(SECRET, envelope, "sha256").hex()
    assert document == encode(frame) | {"nonce": "nonce", "seq": 1, "ts": document["ts"]} | {
        "payload": {"events": [*frame.events]}
    }
    opened = Verifier(SECRET, BINDING, clock=lambda: 1.7e9).open(raw)
    assert (opened.id, opened.payload()) == (frame.id, {"events": [*frame.events]})


def test_a_changed_payload_is_noticed() -> None:
    raw = Signer(SECRET, BINDING).seal_raw("event_batch", "b1", b'{"events":[]}')
    with pytest.raises(SignatureError):
        Verifier(SECRET, BINDING).open(raw.replace(b"[]", b"[1]"))


@pytest.mark.parametrize("identifier", ["", "x" * 65, "line\n", "ü"])
def test_an_id_the_wire_does_not_allow_is_refused(identifier: str) -> None:
    with pytest.raises(FrameError):
        Signer(SECRET, BINDING).seal_raw("event_batch", identifier, b"{}")
