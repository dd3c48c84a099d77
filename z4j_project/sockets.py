"""Connections that cannot be stalled or flooded: Daphne's protocols with deadlines, caps and back-pressure.

Daphne reads for ever, keeps what was read and not yet taken, and what was sent and not yet read by the peer; Twisted's
idle time-out starts again with every byte. Bounded here, for each connection: the time for a request's headers and for
its body, the messages waiting for the application, the bytes waiting for the peer, the frames of one turn, the pings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

from daphne.http_protocol import HTTPFactory
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import reactor as _reactor
from twisted.web import http
from z4j_core.limits import KIB, MIB

from brain.gateway.admission import Admission, LogThrottle
from brain.gateway.handshake import TOO_MANY

# Twisted's annotations leave out what its documentation promises of these two.
reactor: Any = _reactor
HTTPChannel: Any = http.HTTPChannel

logger = logging.getLogger("z4j.server")
throttle = LogThrottle()

#: Seconds for the headers of a request, from the connection or from its first byte; and then for its body.
HEADER_TIMEOUT, BODY_TIMEOUT = 10.0, 60.0
#: Largest body of a request, in bytes.
MAX_BODY = 16 * MIB
#: Bytes of messages, each counted with what it costs to keep, that may wait for the application.
MAX_WAITING, MESSAGE_COST = 128 * KIB, 512
#: Bytes sent while a WebSocket handshake is being decided.
MAX_EARLY = 64 * KIB
#: Seconds a peer may leave a full buffer of what was sent to it unread.
UNREAD_TIMEOUT = 30.0
#: Steps of the frame parser (two a frame) in one turn of the event loop.
STEPS_A_TURN = 256
#: Pings a peer may send within so many seconds.
MAX_PINGS, PING_WINDOW = 50, 10.0
#: Pieces of a message after which they are put together.
MAX_PIECES = 64
#: Seconds an HTTP connection that is refused may take to hear so.
REFUSAL_TIMEOUT = 2.0


class SocketFlow:
    """Stops and resumes reading from one WebSocket: for the application, for what waits for it, for a slow reader.

    To its transport it is a push producer: the transport says when too much waits to be written.
    """

    def __init__(self, protocol: GuardedWebSocket) -> None:
        self._protocol = protocol
        self._reasons: set[str] = set()
        self._sizes: deque[int] = deque()
        self._waiting = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = False
        self._unread: Any = None

    @property
    def stopped(self) -> bool:
        """Whether nothing more is to be read or parsed now."""
        return bool(self._reasons)

    def pause(self) -> None:
        """Read no more; the sender's own buffers fill up, which is what slows it down."""
        self._stop("application")

    def resume(self) -> None:
        """Read on."""
        self._go("application")

    def came(self, size: int) -> None:
        """Count a message that waits for the application."""
        self._sizes.append(size + MESSAGE_COST)
        self._waiting += size + MESSAGE_COST
        if self._waiting > MAX_WAITING:
            self._stop("waiting")

    def taken(self) -> None:
        """Note that the application has taken the oldest message."""
        self._waiting -= self._sizes.popleft()
        if self._waiting <= MAX_WAITING // 2:
            self._go("waiting")

    async def writable(self) -> None:
        """Wait until the peer has read what was sent to it, or is gone."""
        await self._writable.wait()

    def end(self) -> None:
        """Read on whatever waits: the connection is closing, and the peer's answer to that must be seen."""
        self._ended = True
        self._writable.set()
        if self._reasons:
            self._reasons.clear()
            self._protocol.read_on()

    # What the transport calls

    def pauseProducing(self) -> None:
        """Note that the peer does not read: stop reading what would be answered, and give it a time."""
        if self._ended:
            return
        self._writable.clear()
        self._stop("unread")
        if self._unread is None:
            self._unread = reactor.callLater(UNREAD_TIMEOUT, self._give_up)

    def resumeProducing(self) -> None:
        """Note that the peer has read everything."""
        self._cancel()
        self._writable.set()
        self._go("unread")

    def stopProducing(self) -> None:
        """Note that the connection is lost."""
        self._cancel()
        self._ended = True
        self._writable.set()

    def _cancel(self) -> None:
        if self._unread is not None and self._unread.active():
            self._unread.cancel()
        self._unread = None

    def _give_up(self) -> None:
        self._protocol.cut(f"it has not read what was sent to it for {UNREAD_TIMEOUT:.0f} s")

    def _stop(self, reason: str) -> None:
        if self._ended:
            return
        if not self._reasons:
            self._protocol.transport.pauseProducing()
        self._reasons.add(reason)

    def _go(self, reason: str) -> None:
        if reason in self._reasons:
            self._reasons.discard(reason)
            if not self._reasons:
                self._protocol.read_on()


class GuardedWebSocket(WebSocketProtocol):
    """Daphne's WebSocket, which parses no more than its application takes."""

    flow: SocketFlow
    _early = False
    _next_turn: Any = None
    _pings = 0
    _pings_since = 0.0

    def connectionMade(self) -> None:
        """Take the transport over from the HTTP channel, which need not be kept for it."""
        self.flow = SocketFlow(self)
        self.transport.unregisterProducer()
        self.transport.registerProducer(self.flow, True)
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        """Forget everything that waits."""
        self.flow.stopProducing()
        if self._next_turn is not None and self._next_turn.active():
            self._next_turn.cancel()
        self.server.admission.leave(self.transport)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Parse what came. Autobahn's own first makes up a coloured line for its debug log, whether it is on or not."""
        self._dataReceived(data)

    def serverSend(self, content: bytes, binary: bool = False) -> None:
        """Send, unless the peer is gone: that it is comes to the application as a message of its own."""
        if self.state == self.STATE_OPEN:
            super().serverSend(content, binary)

    def onConnect(self, request: Any) -> Any:
        """Let the application decide; what the peer sends meanwhile is kept, not parsed as another handshake."""
        self._early = True
        return super().onConnect(request)

    def onOpen(self) -> None:
        """Parse frames from here on."""
        self._early = False
        super().onOpen()

    def consumeData(self) -> None:
        """Parse what was read: a bounded number of steps, then the others' turn."""
        if self.state == self.STATE_CONNECTING:
            if not self._early:
                super().consumeData()
            elif len(self.data) > MAX_EARLY:
                self.cut("it sent too much before the handshake was over")
            return
        for _ in range(STEPS_A_TURN):
            if self.flow.stopped or self.state == self.STATE_CLOSED or not self.processData():
                return
        self.transport.pauseProducing()
        self._schedule()

    def read_on(self) -> None:
        """Parse what is left of the last read, then read again."""
        if self._next_turn is None:
            self._schedule()

    def _schedule(self) -> None:
        self._next_turn = reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._next_turn = None
        if self.flow.stopped or self.state == self.STATE_CLOSED:
            return
        if self.data:
            self.consumeData()
        if self._next_turn is None and not self.flow.stopped:
            self.transport.resumeProducing()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Count a message until the application takes it. After the close it is too late for any."""
        if self.state == self.STATE_OPEN:
            super().onMessage(payload, isBinary)
            self.flow.came(len(payload))

    def onMessageFrameData(self, payload: bytes) -> None:
        """Keep the pieces of a frame that comes byte by byte as one."""
        super().onMessageFrameData(payload)
        if self.frame_data is not None:
            _put_together(self.frame_data)

    def onMessageFrame(self, payload: list[bytes]) -> None:
        """Keep the fragments of a message that comes byte by byte as one."""
        super().onMessageFrame(payload)
        if self.message_data is not None:
            _put_together(self.message_data)

    def onPing(self, payload: bytes) -> None:
        """Answer, unless pings are all that comes."""
        now = time.monotonic()
        if now - self._pings_since > PING_WINDOW:
            self._pings, self._pings_since = 0, now
        self._pings += 1
        if self._pings <= MAX_PINGS:
            super().onPing(payload)
        elif self._pings == MAX_PINGS + 1:
            self._say(f"closed with {TOO_MANY}: more than {MAX_PINGS} pings in {PING_WINDOW:.0f} s")
            self.serverClose(TOO_MANY)

    def serverClose(self, code: int | None = None) -> None:
        """Close, and read on to see the peer's answer."""
        super().serverClose(code)
        self.flow.end()

    def cut(self, why: str) -> None:
        """Cut the connection without a word to the peer."""
        self._say(f"cut: {why}")
        self.transport.abortConnection()

    def _say(self, what: str) -> None:
        if (note := throttle("socket")) is not None:
            peer = self.transport.getPeer()
            logger.warning("socket of %s:%s %s%s", getattr(peer, "host", ""), getattr(peer, "port", ""), what, note)


def _put_together(pieces: list[Any]) -> None:
    """Make one piece of many, in place: a byte that is kept alone costs fifty."""
    if len(pieces) <= MAX_PIECES:
        return
    whole = pieces[0] if isinstance(pieces[0], bytearray) else bytearray(pieces[0])
    for piece in pieces[1:]:
        whole += piece
    pieces[:] = [whole]


class GuardedChannel(HTTPChannel):
    """An HTTP connection whose requests must come in time, and which the caps may refuse."""

    _deadline: Any = None
    _resting = False
    _finished = False
    _refusal = b""
    _body = 0

    def connectionMade(self) -> None:
        """Count the connection, and start the time for its headers."""
        super().connectionMade()
        admission: Admission = self.factory.server.admission
        reason = admission.enter(self.transport, str(getattr(self.transport.getPeer(), "host", "")), self)
        if not reason:
            self._allow(HEADER_TIMEOUT)
            return
        if (note := throttle("refused")) is not None:
            logger.warning("refused a connection: %s%s", reason, note)
        self._refusal = _answer(b"503 Service Unavailable", b"Retry-After: 5\r\n")
        self._allow(REFUSAL_TIMEOUT)

    def connectionLost(self, reason: Any) -> None:
        """Count the connection out."""
        self._allow(None)
        self.factory.server.admission.leave(self.transport)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; the first of a further request start its time. Nothing is taken after the last word."""
        if self._finished:
            return
        if self._refusal:
            self._finish(self._refusal)
            return
        if self._resting:
            self._resting = False
            self._allow(HEADER_TIMEOUT)
        super().dataReceived(data)

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of a body, up to the limit."""
        if not self._handlingRequest:
            self._body += len(data)
            if self._body > MAX_BODY:
                self._refuse_body()
                return
        super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        """Start the time for the body; refuse one that is announced as too large before it comes."""
        self.factory.server.admission.named(self.transport)
        self._body = 0
        self._allow(BODY_TIMEOUT)
        super().allHeadersReceived()
        if self.length is not None and self.length > MAX_BODY:
            self._refuse_body()

    def allContentReceived(self) -> None:
        """Give the application all the time it needs."""
        self._allow(None)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Rest until the next request begins; one that has come already has its time from now."""
        if self._dataBuffer:
            self._allow(HEADER_TIMEOUT)
        else:
            self._resting = True
        super().requestDone(request)

    def drop(self) -> None:
        """Cut the connection to make room."""
        self.transport.abortConnection()

    def _allow(self, seconds: float | None) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.callLater(seconds, self._late)

    def _late(self) -> None:
        if self._refusal:
            self.drop()
        else:
            self._finish(_answer(b"408 Request Timeout"))

    def _refuse_body(self) -> None:
        self._finish(_answer(b"413 Content Too Large"))

    def _finish(self, answer: bytes) -> None:
        """Say the last word; a peer that does not take it is cut."""
        self._finished = True
        self.setTimeout(None)
        self.transport.write(answer)
        self.loseConnection()
        self._deadline = self.callLater(REFUSAL_TIMEOUT, self.drop)


def _answer(status: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: 0\r\nConnection: close\r\n\r\n" % (status, headers)


class GuardedHTTPFactory(HTTPFactory):
    """Makes the HTTP side of connections."""

    protocol = GuardedChannel
