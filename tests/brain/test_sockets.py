"""The HTTP side of a connection: every byte in its time. The clock is turned by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from brain.gateway.admission import Admission, Caps
from z4j_project import sockets
from z4j_project.sockets import BODY_TIMEOUT, HEADER_TIMEOUT, MAX_BODY, REFUSAL_TIMEOUT, GuardedChannel

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


class Request:
    """Takes a request and, when told so, has answered it."""

    def __init__(self, channel: GuardedChannel, queued: int) -> None:
        self.channel = channel
        self.requestHeaders = SimpleNamespace(getRawHeaders=lambda name: None, addRawHeader=lambda name, value: None)
        channel.taken.append(self)
        self.complete = False

    def parseCookies(self) -> None:
        """Nothing."""

    def gotLength(self, length: int | None) -> None:
        """Nothing."""

    def handleContentChunk(self, data: bytes) -> None:
        """Nothing."""

    def connectionLost(self, reason: object) -> None:
        """Nothing."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Note that all of it is there."""
        self.complete = True


@pytest.fixture
def connect():
    """Open a connection to a server with one admission; return channel, transport and clock."""
    server = SimpleNamespace(admission=Admission(Caps(total=2, per_address=0, per_agent=0)))
    clock = Clock()

    def open_() -> GuardedChannel:
        channel = GuardedChannel()
        channel.factory = SimpleNamespace(server=server)
        channel.requestFactory = Request
        channel.callLater = clock.callLater
        channel.timeOut = 60
        channel.taken = []
        channel.clock = clock
        channel.makeConnection(StringTransport())
        return channel

    return open_


def over(channel: GuardedChannel) -> bool:
    """Whether the connection is being closed."""
    return channel.transport.disconnecting or channel.transport.disconnected


def test_headers_have_ten_seconds_however_often_a_byte_comes(connect):
    channel = connect()
    channel.dataReceived(HEAD)
    for _ in range(int(HEADER_TIMEOUT) - 1):
        channel.clock.advance(1)
        channel.dataReceived(b"X: y\r\n")
    assert not over(channel)
    channel.clock.advance(1)
    assert over(channel)
    assert b" 408 " in channel.transport.value()


def test_a_body_has_its_time_too_and_then_the_application_all_it_needs(connect):
    slow, quick = connect(), connect()
    slow.dataReceived(HEAD + b"Content-Length: 99\r\n\r\nabc")
    quick.dataReceived(HEAD + b"Content-Length: 3\r\n\r\nabc")
    assert quick.taken[0].complete
    for _ in range(int(BODY_TIMEOUT)):
        assert not over(slow)
        slow.dataReceived(b"x")
        slow.clock.advance(1)
    assert over(slow)
    quick.clock.advance(3600)
    assert not over(quick)


def test_a_connection_at_rest_has_a_new_time_with_the_next_request(connect):
    channel = connect()
    for _ in range(3):
        channel.dataReceived(HEAD + b"\r\n")
        channel.clock.advance(HEADER_TIMEOUT * 2)
        channel.requestDone(channel.taken[-1])
        channel.clock.advance(HEADER_TIMEOUT * 2)
        assert not over(channel)
    channel.dataReceived(HEAD)
    channel.clock.advance(HEADER_TIMEOUT)
    assert over(channel)


def test_a_request_sent_ahead_and_left_half_has_its_time_from_its_turn(connect):
    channel = connect()
    channel.dataReceived(HEAD + b"\r\n" + b"GET / HT")
    channel.clock.advance(HEADER_TIMEOUT * 2)
    assert not over(channel)
    channel.requestDone(channel.taken[-1])
    channel.clock.advance(HEADER_TIMEOUT)
    assert over(channel)


@pytest.mark.parametrize("kind", ["announced", "chunked"])
def test_a_body_beyond_the_limit_is_refused(connect, kind):
    channel = connect()
    if kind == "announced":
        channel.dataReceived(HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    else:
        channel.dataReceived(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(MAX_BODY // 65536 + 1):
            channel.dataReceived(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert b" 413 " in channel.transport.value()
    assert over(channel)
    assert not any(request.complete for request in channel.taken)


def test_one_too_many_hears_so_and_is_gone(connect):
    first, _, third = connect(), connect(), connect()
    third.dataReceived(HEAD)
    assert b" 503 " in third.transport.value()
    assert over(third)
    first.connectionLost(None)
    assert not over(connect())
    mute = connect()
    mute.clock.advance(REFUSAL_TIMEOUT)
    assert over(mute)


def test_pieces_are_put_together_in_their_order():
    pieces: list[object] = []
    for number in range(1000):
        pieces.append(b"%d," % number)
        sockets._put_together(pieces)
        assert len(pieces) <= sockets.MAX_PIECES
    assert b"".join(pieces) == b"".join(b"%d," % number for number in range(1000))
