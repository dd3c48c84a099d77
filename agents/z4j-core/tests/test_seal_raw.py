from __future__ import annotations

import pytest
from z4j_core.errors import FrameError, SignatureError
from z4j_core.frames import EventBatch
from z4j_core.signing import Binding, Signer, Verifier, canonical, derive_secret

BINDING = Binding("agent", "project", "session")
SECRET = derive_secret("token")


def test_a_spliced_frame_equals_the_one_that_was_built() -> None:
    clock, nonce = (lambda: 1.7e9), (lambda: "nonce")
    frame = EventBatch(id="b1", events=({"id": "1", "data": {"ü": [1.0, None]}},))
    built = Signer(SECRET, BINDING, clock=clock, nonce=nonce).seal(frame)
    spliced = Signer(SECRET, BINDING, clock=clock, nonce=nonce).seal_raw(
        "event_batch", "b1", canonical(frame.payload())
    )
    assert spliced == built
    assert Verifier(SECRET, BINDING, clock=clock).open(spliced).payload() == frame.payload() | {
        "events": [*frame.events]
    }


def test_a_changed_payload_is_noticed() -> None:
    raw = Signer(SECRET, BINDING).seal_raw("event_batch", "b1", b'{"events":[]}')
    with pytest.raises(SignatureError):
        Verifier(SECRET, BINDING).open(raw.replace(b"[]", b"[1]"))


def test_an_id_that_would_need_escaping_is_refused() -> None:
    with pytest.raises(FrameError):
        Signer(SECRET, BINDING).seal_raw("event_batch", 'a"b', b"{}")
