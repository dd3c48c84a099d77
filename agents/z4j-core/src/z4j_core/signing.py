"""Signatures: canonical JSON, the binding to a session, the replay guard.

The signature is HMAC-SHA256 over the canonical JSON of the frame without ``hmac`` and with three strings that are
not on the wire: agent, project and session (wire protocol, sections 3 and 4).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from z4j_core import limits
from z4j_core.errors import ClockSkewError, FrameError, ReplayError, SignatureError
from z4j_core.frames import Frame, check_envelope, check_id, parse_json

Clock = Callable[[], float]

_HEAD = re.compile(
    rb'\{"hmac":"([0-9a-f]{64})",("id":"([ !#-\[\]-~]{1,64})","nonce":"([ !#-\[\]-~]{1,32})","payload":)',
)
_TAIL = re.compile(
    rb',("seq":([1-9][0-9]{0,17}),)("ts":"([0-9TZ:.+-]{10,40})","type":"([a-z_]{1,32})","v":2\})$',
)
_TAIL_SPAN = 160
_ID_TEXT = re.compile(r"[0-9A-Za-z_-]{1,64}")


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of ``value``: keys sorted at every level, no blanks, UTF-8, no NaN.

    Raises :class:`FrameError` for what JSON or UTF-8 cannot hold.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError(f"not representable as canonical JSON: {str(error)[:200]}") from error


def derive_secret(token: str) -> bytes:
    """Return the HMAC key of an agent that was given only a token (text form of :func:`secret_text`)."""
    return hmac.digest(token.encode(), b"z4j-hmac-v1", "sha256")


def secret_bytes(secret: str) -> bytes:
    """Decode the URL-safe base64 text of an HMAC secret; padding may be absent.

    Raises :class:`SignatureError` when the text is not base64.
    """
    try:
        return base64.b64decode(secret + "=" * (-len(secret) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError("the HMAC secret is not URL-safe base64") from error


def secret_text(secret: bytes) -> str:
    """Return the URL-safe base64 text of an HMAC secret, without padding."""
    return base64.urlsafe_b64encode(secret).decode().rstrip("=")


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """The identity a signature is bound to; all three come from ``hello_ack``."""

    agent_id: str
    project_id: str
    session_id: str

    def __post_init__(self) -> None:
        for value in (self.agent_id, self.project_id, self.session_id):
            if not _ID_TEXT.fullmatch(value):
                raise FrameError("agent, project and session id must be 1 to 64 letters, digits, - or _")

    def fields(self) -> dict[str, str]:
        """Return the three strings as the envelope holds them."""
        return {"agent_id": self.agent_id, "project_id": self.project_id, "session_id": self.session_id}


def _digest(secret: bytes, envelope: bytes) -> str:
    return hmac.digest(secret, envelope, hashlib.sha256).hex()


def utc_now(clock: Clock = time.time) -> str:
    """Return the time of ``clock`` as the wire writes it: ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(clock(), UTC).isoformat(timespec="microseconds")


def _quoted(identifier: str) -> bytes:
    return b'"%b"' % identifier.encode() if _ID_TEXT.fullmatch(identifier) else canonical(identifier)


class Signer:
    """Signs the frames of one direction of one session, numbering them from 1."""

    def __init__(
        self, secret: bytes, binding: Binding, *, clock: Clock = time.time, nonce: Callable[[], str] | None = None
    ) -> None:
        self._secret = secret
        self._binding = binding
        self._clock = clock
        self._nonce = nonce or (lambda: secrets.token_urlsafe(16))
        self.seq = 0

    def seal(self, frame: Frame) -> bytes:
        """Return the frame as canonical JSON with ``nonce``, ``seq``, ``ts`` and ``hmac``.

        Canonical JSON on the wire lets the peer verify without parsing (see :class:`Verifier`).
        """
        return self.seal_raw(frame.type, frame.id, canonical(frame.payload()))

    def seal_raw(self, kind: str, identifier: str, payload: bytes) -> bytes:
        """Return a frame of type ``kind`` around ``payload``, which must be the canonical JSON of its payload.

        Neither parses nor copies the payload more than needed. Raises :class:`FrameError` for an ``identifier`` that
        is not 1 to 64 printable ASCII characters.
        """
        check_id(identifier, "id", limits.MAX_ID)
        self.seq += 1
        binding = self._binding
        head = b'"id":%b,"nonce":"%b","payload":' % (_quoted(identifier), self._nonce().encode())
        seq = b'"seq":%d,' % self.seq
        tail = b'"ts":"%b","type":"%b","v":2}' % (utc_now(self._clock).encode(), kind.encode())
        agent = b'{"agent_id":"%b",' % binding.agent_id.encode()
        project = b',"project_id":"%b",' % binding.project_id.encode()
        session = b'"session_id":"%b",' % binding.session_id.encode()
        digest = _digest(self._secret, b"".join((agent, head, payload, project, seq, session, tail)))
        return b"".join((b'{"hmac":"', digest.encode(), b'",', head, payload, b",", seq, tail))

    def __repr__(self) -> str:
        return f"<Signer seq={self.seq}>"


class ReplayGuard:
    """Refuses frames out of the time window, out of order or seen before, within one session and direction."""

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._last_seq = 0
        self._nonces: OrderedDict[str, float] = OrderedDict()

    def check(self, *, ts: str, seq: int, nonce: str) -> None:
        """Accept the frame and remember it, or raise :class:`ClockSkewError` or :class:`ReplayError`."""
        now = self._clock()
        skew = _timestamp(ts) - now
        if abs(skew) > limits.CLOCK_WINDOW:
            raise ClockSkewError(
                f"the sender's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}; "
                f"at most {limits.CLOCK_WINDOW:.0f} s are allowed",
                skew_seconds=skew,
            )
        if seq <= self._last_seq:
            raise ReplayError(f"sequence {seq} is not above {self._last_seq}")
        while self._nonces and next(iter(self._nonces.values())) < now - limits.NONCE_TTL:
            self._nonces.popitem(last=False)
        if nonce in self._nonces:
            raise ReplayError("the nonce was seen before")
        if len(self._nonces) >= limits.NONCE_CAP:
            self._nonces.popitem(last=False)
        self._nonces[nonce] = now
        self._last_seq = seq


def _timestamp(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise FrameError("ts is not an ISO 8601 time") from error
    if moment.tzinfo is None:
        raise FrameError("ts has no time zone")
    return moment.timestamp()


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A verified frame whose payload may not have been parsed yet."""

    type: str
    id: str
    ts: str
    seq: int
    payload_json: bytes

    def payload(self) -> dict[str, Any]:
        """Parse the payload. Raises :class:`FrameError` when it is not an object."""
        return parse_json(self.payload_json)


class Verifier:
    """Verifies the frames of one direction of one session: signature first, then time, order and nonce."""

    def __init__(self, secret: bytes, binding: Binding, *, clock: Clock = time.time) -> None:
        self._secret = secret
        self._binding = binding
        self._guard = ReplayGuard(clock)
        self._agent = f'{{"agent_id":"{binding.agent_id}",'.encode()
        self._project = f',"project_id":"{binding.project_id}",'.encode()
        self._session = f'"session_id":"{binding.session_id}",'.encode()

    def open(self, raw: bytes, *, max_bytes: int = limits.MAX_FRAME_BYTES) -> Opened:
        """Return the verified frame.

        A frame that arrives as canonical JSON is verified without being parsed: the three binding strings are
        spliced into its bytes. Any other spelling is parsed and canonicalised first.
        Raises :class:`FrameError`, :class:`SignatureError` or one of their subclasses.
        """
        spliced = self._open_canonical(raw) if len(raw) <= max_bytes else None
        opened, nonce = spliced or self._open_parsed(raw, max_bytes)
        self._guard.check(ts=opened.ts, seq=opened.seq, nonce=nonce)
        return opened

    def _open_canonical(self, raw: bytes) -> tuple[Opened, str] | None:
        head = _HEAD.match(raw)
        tail = _TAIL.search(raw, max(0, len(raw) - _TAIL_SPAN))
        if head is None or tail is None or head.end() >= tail.start():
            return None
        payload = raw[head.end() : tail.start()]
        envelope = b"".join(
            (self._agent, head.group(2), payload, self._project, tail.group(1), self._session, tail.group(3))
        )
        if not hmac.compare_digest(_digest(self._secret, envelope).encode(), head.group(1)):
            return None
        check_envelope({"v": 2, "type": (kind := tail.group(5).decode())})
        opened = Opened(kind, head.group(3).decode(), tail.group(4).decode(), int(tail.group(2)), payload)
        return opened, head.group(4).decode()

    def _open_parsed(self, raw: bytes, max_bytes: int) -> tuple[Opened, str]:
        document = parse_json(raw, max_bytes=max_bytes)
        kind = check_envelope(document)
        given = document.pop("hmac", None)
        if not isinstance(given, str):
            raise SignatureError("the frame is not signed")
        expected = _digest(self._secret, canonical(document | self._binding.fields()))
        if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace")):
            raise SignatureError
        identifier, nonce = document.get("id"), document.get("nonce")
        seq, ts = document.get("seq"), document.get("ts")
        identifier = check_id(identifier, "id", limits.MAX_ID)
        nonce = check_id(nonce, "nonce", limits.MAX_NONCE)
        if isinstance(seq, bool) or not isinstance(seq, int) or seq < 1:
            raise FrameError("seq must be an integer of at least 1")
        if not isinstance(ts, str):
            raise FrameError("ts must be a string")
        return Opened(kind, identifier, ts, seq, canonical(document.get("payload", {}))), nonce

    def __repr__(self) -> str:
        return "<Verifier>"
