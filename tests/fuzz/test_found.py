"""What fuzzing a live brain found, made small."""

from __future__ import annotations

import pytest
from z4j_core.frames import Hello, encode
from z4j_core.signing import canonical

from tests.brainprocess import BrainProcess, running_brain
from tests.fuzz import hostile
from tests.wire.raw import BINARY, CLOSE, RawSocket, frame
from tests.wire.test_hostile_frames import complaints

HELLO = frame(BINARY, canonical(encode(Hello(id="h", worker_id="w"))))
FAREWELL = frame(CLOSE, b"\x03\xe8")


@pytest.fixture(scope="module")
def brain():
    """A brain for the tests of this file."""
    with running_brain() as process:
        yield process


def news(brain: BrainProcess, before: int) -> list[str]:
    """Return what the log should not hold, from the line ``before`` on."""
    return complaints(brain)[before:]


@pytest.mark.parametrize(
    "sent",
    [frame(BINARY, b"{") + FAREWELL, HELLO + FAREWELL, HELLO + frame(BINARY, b"{") + FAREWELL],
    ids=["bad-hello", "hello", "bad-frame"],
)
def test_a_peer_that_is_gone_before_it_is_answered_is_no_fault_of_the_brain(brain, sent):
    credential, before = brain.mint(f"gone-{len(sent)}"), len(complaints(brain))
    for _ in range(10):
        with RawSocket(brain.ws_url) as raw:
            raw.upgrade(credential["token"])
            raw.socket.sendall(sent)
            raw.close_code()
    assert news(brain, before) == []


@pytest.mark.parametrize("host", [b"evil.example.com", b"", b"127.0.0.1:x"], ids=["foreign", "empty", "bad-port"])
def test_a_host_that_is_not_allowed_leaves_no_traceback(brain, host):
    before = len(complaints(brain))
    data = b"GET /login/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert hostile.answered(brain.port, hostile.Request(data, complete=True)).startswith(b"HTTP/1.1 400 ")
    assert news(brain, before) == []
