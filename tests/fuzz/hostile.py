"""What is thrown at a live brain: mutated payloads, bytes that are no WebSocket, requests nobody would make."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import struct
from random import Random
from urllib.parse import quote

from tests.fuzz.seeds import DICTIONARY
from tests.wire.raw import RawSocket, frame
from tests.wire.test_hostile_frames import VALUES

MAX_PAYLOAD = 60_000
#: Short enough to be sent by the thousand.
_VALUES = [value for value in VALUES.values() if len(value) <= 5000]
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)")


def _unescaped(token: str) -> bytes:
    return _ESCAPE.sub(
        lambda match: bytes.fromhex(match[1][1:].decode()) if len(match[1]) == 3 else match[1], token.encode()
    )


TOKENS = [_unescaped(line[1:-1]) for line in DICTIONARY.read_text().splitlines()]
_JSON_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null')


def mutated(dice: Random, payload: bytes, most: int = 4) -> bytes:
    """Return the payload with one to ``most`` changes, as a rule still nearly JSON."""
    for _ in range(dice.randint(1, most)):
        payload = dice.choice(_CHANGES)(dice, payload)
    return payload[:MAX_PAYLOAD]


def _replace_value(dice: Random, payload: bytes) -> bytes:
    values = list(_JSON_VALUE.finditer(payload))
    if not values:
        return dice.choice(_VALUES)
    chosen = dice.choice(values)
    return payload[: chosen.start()] + dice.choice([*_VALUES, *TOKENS]) + payload[chosen.end() :]


def _insert(dice: Random, payload: bytes) -> bytes:
    place = dice.randint(0, len(payload))
    return payload[:place] + dice.choice(TOKENS) + payload[place:]


def _flip(dice: Random, payload: bytes) -> bytes:
    if not payload:
        return b"\x80"
    changed = bytearray(payload)
    changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _cut(dice: Random, payload: bytes) -> bytes:
    start, end = sorted((dice.randint(0, len(payload)), dice.randint(0, len(payload))))
    return payload[:start] + payload[end:]


def _repeat(dice: Random, payload: bytes) -> bytes:
    start, end = sorted((dice.randint(0, len(payload)), dice.randint(0, len(payload))))
    return payload[:end] + payload[start:end] * dice.choice((1, 2, 40)) + payload[end:]


# A changed value leaves the payload readable, so that it gets further than the reader.
_CHANGES = [_replace_value, _replace_value, _replace_value, _insert, _flip, _cut, _repeat]


def garbage(dice: Random) -> bytes:
    """Return bytes that may look like WebSocket frames and break its rules."""
    payload = dice.randbytes(dice.choice((0, 1, 2, 125, 126, 127, 300)))
    head = dice.randrange(256)
    lengths = (
        bytes([dice.randrange(128)]), bytes([0x80 | dice.randrange(126)]), b"\xfe" + struct.pack("!H", len(payload)),
        b"\xff" + struct.pack("!Q", dice.choice((len(payload), 2**31, 2**63, 2**64 - 1))), b"\x7f" + b"\xff" * 8,
    )  # fmt: skip
    whole = (
        bytes([head]) + dice.choice(lengths) + dice.randbytes(4) + payload,
        frame(dice.randrange(16), payload, fin=dice.random() < 0.5),
        frame(8, struct.pack("!H", dice.randrange(65536)) + payload[:123]),
        frame(1, payload),
        frame(0, payload, fin=False),
        dice.randbytes(dice.randint(1, 600)),
    )
    return b"".join(dice.choice(whole) for _ in range(dice.randint(1, 6)))


def broken_websocket(dice: Random, url: str, token: str) -> str:
    """Upgrade, send garbage, and no more; return an empty string when the brain then ends the connection."""
    with RawSocket(url) as raw:
        sent = garbage(dice)
        early = dice.random() < 0.2
        head = raw.upgrade(token, sent if early else b"")
        if not head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 4")):
            return f"answered the upgrade with {head[:60]!r}, after {sent[:80]!r}"
        return _ended(raw.socket, b"" if early else sent)


def _ended(sock: socket.socket, data: bytes) -> str:
    """Send the last bytes and read to the end of the stream."""
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    except TimeoutError:
        return f"did not end after {data[:80]!r}"
    except OSError:
        return ""
    return ""


PAGES = (
    "/", "/healthz", "/login/", "/setup/%s", "/p/%s/", "/p/default/", "/p/default/live", "/p/default/chart.json",
    "/p/default/tasks/", "/p/default/tasks/", "/p/default/tasks/", "/p/default/tasks/live", "/p/default/tasks/%s/",
    "/p/default/tasks/1/", "/p/default/tasks/1/live", "/p/default/tasks/1/text/%s", "/p/default/agents/",
    "/p/default/agents/connect/", "/p/default/agents/%s/progress", "/admin/", "/admin/z4j_brain/%s/",
    "/admin/z4j_brain/agent/", "/admin/z4j_brain/project/", "/admin/z4j_brain/user/", "/static/%s", "/ws/agent", "/%s",
)  # fmt: skip
KEYS = (
    "q", "state", "queue", "name", "engine", "since", "order", "after", "top", "seen", "next", "page", "p", "o", "e",
    "all", "id__exact", "_changelist_filters", "_to_field", "_popup", "slug__in", "name__regex", "%s",
)  # fmt: skip
TEXTS = (
    b"", b"0", b"-1", b"1", b"1.1", b"-1.-1", b"999999999999999999999.1", b"1.99999999999999999999", b"1_0.1_0",
    b"NaN.1", b"1e9.1", b"\xd9\xa1.\xd9\xa1", b"9" * 5000, b"9223372036854775808", b"failed", b"finished",
    b"15m", b"24h", b"newest", b"\x00", b"a\x00b", b"\xed\xa0\x80", b"\xff\xfe", b"%", b"_", b"\\", b"%%%s",
    b"*" * 300, b"mail*", b"[a-", b"(" * 200, b"' OR 1=1 --", b"\"><script>", b"{{7*7}}", b"../../etc/passwd",
    b"//evil.example.com", b"\r\nX: y", "\u202e\U0001f4a9".encode(), b"x" * 3000, b"a,b", b"1,1,1",
    b"state:failed name:x", b"00000000-0000-0000-0000-000000000000",
)  # fmt: skip


def target(dice: Random) -> str:
    """Return the path and query of a request nobody would make, percent-encoded."""

    def text() -> str:
        value = dice.choice(TEXTS) if dice.random() < 0.8 else mutated(dice, dice.choice(TEXTS))[:6000]
        return quote(value, safe="")

    page = dice.choice(PAGES)
    path = page.replace("%s", text()) if "%s" in page else page
    pairs = []
    for _ in range(dice.randint(0, 5)):
        key = dice.choice(KEYS)
        pairs.append(f"{text() if key == '%s' else key}={text()}")
    query = "&".join(pairs)
    return f"{path}?{query}" if query else path


METHODS = ("GET",) * 12 + ("POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "XYZZY")
HEADERS = (
    b"HX-Request: true", b"HX-Current-URL: \xff", b"Accept-Language: " + b"x," * 500, b"Range: bytes=9-1",
    b"X-Forwarded-For: 1.2.3.4, \xff", b"X-Forwarded-Proto: ftp", b"Origin: null", b"If-Modified-Since: yesterday",
    b"Content-Type: multipart/form-data; boundary=", b"Content-Type: application/json; charset=x",
    b"Accept-Encoding: \x00", b"If-None-Match: *", b"Referer: \xed\xa0\x80",
)  # fmt: skip
HOSTS = (b"evil.example.com", b"", b"a b", b"\xff", b"127.0.0.1:x", b"[::1", b"x" * 300)
COOKIES = (b"", b"z4j_session=\xff; z4j_session=x", b"=;=;" * 200, b'a="\\000"')
LENGTHS = (b"0", b"-1", b"9" * 30, b"x", b"1_0")


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """The bytes of a request, and whether it is complete, so that it must be answered."""

    data: bytes
    complete: bool


def request(dice: Random, host: str, cookie: str) -> Request:
    """Return a request: as a rule one that Django gets to see."""
    method = dice.choice(METHODS)
    body = b"" if method in {"GET", "HEAD"} else mutated(dice, dice.choice([*_VALUES, b"a=b&csrfmiddlewaretoken=x"]))
    lengthy, broken = dice.random() < 0.1, dice.random() < 0.1
    lines = [
        f"{method} {target(dice)} HTTP/1.1".encode(),
        b"Host: " + (dice.choice(HOSTS) if dice.random() < 0.1 else host.encode()),
        b"Cookie: " + (dice.choice(COOKIES) if dice.random() < 0.2 else cookie.encode()),
        b"Content-Length: " + (dice.choice(LENGTHS) if lengthy else str(len(body)).encode()),
        *dice.sample(HEADERS, dice.choice((0, 0, 1, 2))),
    ]
    whole = b"\r\n".join(lines) + b"\r\n\r\n" + body
    return Request(mutated(dice, whole) if broken else whole, not lengthy and not broken)


def answered(port: int, sent: Request) -> bytes:
    """Send a request, return the first bytes of the answer; empty when the connection was closed without one.

    Raises ``TimeoutError`` when a complete request is not answered.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=20 if sent.complete else 0.2) as sock:
        try:
            sock.sendall(sent.data)
            return sock.recv(65536)
        except TimeoutError:
            if sent.complete:
                raise
        except OSError:
            return b""
        sock.settimeout(20)
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            return sock.recv(65536)
        return b""
