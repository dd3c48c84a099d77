"""Every frame with every kind of hostile content: it costs the sender at the most, and leaves no traceback."""

from __future__ import annotations

import asyncio
import json
import uuid
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
import websockets
from z4j_core.frames import Hello, encode
from z4j_core.signing import canonical

from tests.brainprocess import EMAIL, PASSWORD, BrainProcess, running_brain
from tests.conftest import NOW, life
from tests.wire.peer import Peer

#: Values as JSON text, valid or not.
VALUES = {
    "nul": b'"a\\u0000b"',
    "raw-control": b'"a\x01b"',
    "lone-surrogate": b'"\\ud800"',
    "surrogates-swapped": b'"\\udc00\\ud800"',
    "utf8-invalid": b'"\xff\xfe"',
    "utf8-surrogate": b'"\xed\xa0\x80"',
    "utf8-overlong": b'"\xc0\x80"',
    "nan": b"NaN",
    "infinity": b"-Infinity",
    "overflow": b"1e999",
    "overflow-negative": b"-1e999",
    "underflow": b"1e-999",
    "int-65-bit": b"18446744073709551616",
    "int-negative": b"-9223372036854775809",
    "int-400": b"9" * 400,
    "int-5000": b"9" * 5000,
    "duplicate-keys": b'{"a":1,"a":2,"a":{"a":3}}',
    "deep-33": b"[" * 33 + b"]" * 33,
    "deep-100000": b"[" * 100_000 + b"]" * 100_000,
    "deep-open": b'{"a":' * 50_000,
    "many-nodes": b"[" + b'{"a":1},' * 60_000 + b"1]",
    "long-string": b'"' + b"x" * 500_000 + b'"',
    "long-key": b'{"' + b"k" * 300_000 + b'":1}',
    "endless-string": b'[],[],[],"' + b'\\"' * 400_000,
    "json-in-string": json.dumps('{"q": 1e999, "r": NaN, "s": ' + "9" * 5000 + "}").encode(),
    "json-in-string-2": json.dumps('{"q\x00": 18446744073709551616, "s": -1, "t": true, "u": 3}').encode(),
    "bidi": '"\u202e\u2066\ufeff\U0001f4a9"'.encode(),
    "empty-string": b'""',
    "null": b"null",
    "true": b"true",
    "list": b"[[],{},0]",
    "object": b'{"":{"":""}}',
    "minus": b"-1",
    "fraction": b"0.1e-5",
    "newline": b'"line\\nbreak\\r\\u2028 \\u001b[2J"',
}
#: Payloads with a place for the value, by frame type.
PLACES = {
    "heartbeat": [
        b'{"buffer_size":%s}',
        b'{"dropped_events":%s,"last_flush_at":null}',
        b'{"adapter_health":{"celery.queue_depths":%s,"celery.broker_type":"redis"}}',
        b'{"adapter_health":{"other":%s}}',
        b'{"adapter_health":%s}',
        b'{"telemetry_loss":{"counters":{"produced":%s,"buffered":%s,"dropped":{"x":%s}}}}',
        b'{"telemetry_loss":%s}',
        b'{"unknown":%s}',
    ],
    "agent_status": [b'{"buffer_depth":%s}', b'{"engines":[%s]}', b'{"buffer_oldest_age_seconds":%s}'],
    "command_result": [
        b'{"status":%s}',
        b'{"status":"success","result":{"a":%s}}',
        b'{"status":"failed","error":%s}',
        b'{"status":"success","result":%s}',
    ],
    "command_ack": [b'{"delivery_claim_token":%s}'],
    "registry_delta": [b'{"engine":"celery","added":[%s]}', b'{"engine":%s}'],
    "error": [b'{"code":"x","message":%s,"fatal":false}', b'{"code":%s,"message":"m"}'],
}
HELLO_PLACES = [
    b'"framework":%s',
    b'"agent_version":%s',
    b'"engines":[%s]',
    b'"capabilities":{"celery":[%s]}',
    b'"capabilities":{"celery":%s}',
    b'"capabilities":%s',
    b'"host":{"name":%s,"hostname":%s,"release":%s}',
    b'"host":%s',
    b'"worker_id":%s',
    b'"worker_pid":%s',
    b'"worker_started_at":%s',
    b'"runtime_features":[%s]',
    b'"protocol_version":%s',
]
EVENT_PLACES = ("id", "kind", "engine", "task_id", "occurred_at", "data")
#: What a hostile frame may cost its sender: the connection, with one of these codes.
REFUSALS = {4400, 4403, 4426, 1009, 1007}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def brain(request):
    """A brain for the tests of this file."""
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").create(f"hostile_{uuid.uuid4().hex[:8]}")
    with running_brain(url) as process:
        yield process


@pytest.fixture(scope="module")
def credential(brain: BrainProcess) -> dict[str, str]:
    """The attacker's credential."""
    return brain.mint("hostile")


class Neighbour:
    """An honest agent that delivers all the time."""

    def __init__(self, brain: BrainProcess) -> None:
        self._brain = brain
        self._stop = asyncio.Event()
        self.sent = self.accepted = 0

    async def __aenter__(self) -> Neighbour:
        self._credential = await asyncio.to_thread(self._brain.mint, f"neighbour-{uuid.uuid4().hex[:6]}")
        self._task = asyncio.create_task(self._deliver())
        return self

    async def _deliver(self) -> None:
        async with Peer(self._brain.ws_url, self._credential) as peer:
            while not self._stop.is_set():
                self.sent += 4
                ack = await asyncio.wait_for(peer.deliver(life(uuid.uuid4().hex)), 30)
                self.accepted += ack.accepted
                await asyncio.sleep(0.02)

    async def __aexit__(self, kind: object, *details: object) -> None:
        self._stop.set()
        await self._task
        if kind is None:
            assert self.sent > 0
            assert self.accepted == self.sent, "the neighbour's only connection lost nothing"


def fill(place: bytes, value: bytes) -> bytes:
    """Put a value in every place of a payload."""
    return place.replace(b"%s", value)


def complaints(brain: BrainProcess) -> list[str]:
    """Return what the log must not hold."""
    words = ("Traceback", " ERROR ", " CRITICAL ", "closed with 4012", "(1011)")
    return [line[:300] for line in brain.text().splitlines() if any(word in line for word in words)]


async def outcome(peer: Peer) -> int:
    """Return the close code, or 0 when the connection still delivers."""
    try:
        ack = await asyncio.wait_for(peer.deliver(life(uuid.uuid4().hex)[:1]), 30)
    except websockets.ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
    assert ack.accepted == 1
    return 0


async def test_hostile_content_of_any_frame_costs_its_sender_only(brain, credential):
    seen: dict[int, int] = {}
    async with Neighbour(brain):
        for kind, places in PLACES.items():
            for place in places:
                peer = None
                for value in VALUES.values():
                    if peer is None:
                        peer = await Peer(brain.ws_url, credential, worker_id="w").__aenter__()
                    identifier = str(uuid.uuid4())
                    payload = fill(place, value)
                    if len(payload) > 900_000:
                        continue
                    await peer.socket.send(peer.signer.seal_raw(kind, identifier, payload))
                    code = await outcome(peer)
                    seen[code] = seen.get(code, 0) + 1
                    if code:
                        assert code in REFUSALS, (kind, place[:60], value[:60])
                        peer = None
                if peer is not None:
                    await peer.socket.close()
    assert set(seen) == {0, 4400}, seen
    assert complaints(brain) == []


async def test_a_hostile_hello_costs_its_sender_only(brain, credential):
    seen = {}
    async with Neighbour(brain):
        for place in HELLO_PLACES:
            for value in VALUES.values():
                peer = Peer(brain.ws_url, credential)
                await peer.open()
                body = fill(place, value)
                await peer.socket.send(b'{"v":2,"type":"hello","id":"h","ts":null,"payload":{%b}}' % body)
                try:
                    answer = json.loads(await asyncio.wait_for(peer.socket.recv(), 30))
                    code = 0 if answer["type"] == "hello_ack" else await asyncio.wait_for(peer.closed(), 30)
                except websockets.ConnectionClosed as closed:
                    code = closed.rcvd.code if closed.rcvd else 1006
                seen[code] = seen.get(code, 0) + 1
                assert code == 0 or code in REFUSALS, (place, value[:60])
                await peer.socket.close()
    assert seen[0] > 50
    assert seen[4400] > 50
    assert complaints(brain) == []


async def test_the_envelope_may_hold_anything_too(brain, credential):
    good = encode(Hello(id="h", worker_id="w"))
    async with Neighbour(brain):
        for field in ("v", "type", "id", "ts", "payload"):
            for value in VALUES.values():
                document = {**good, field: "@"}
                peer = Peer(brain.ws_url, credential)
                await peer.open()
                await peer.socket.send(canonical(document).replace(b'"@"', value))
                answered = asyncio.wait_for(peer.socket.recv(), 30)
                try:
                    answer = json.loads(await answered)
                    if answer["type"] != "hello_ack":
                        assert await peer.closed() in REFUSALS
                except websockets.ConnectionClosed as closed:
                    assert closed.rcvd and closed.rcvd.code in REFUSALS, (field, value[:60])
                await peer.socket.close()
        for whole in (b"", b"{", b"\xef\xbb\xbf{}", b"null", b"\x00", b"[1,2]", b'"x"', b"{}" * 10, b'{"v":2.0}'):
            peer = Peer(brain.ws_url, credential)
            await peer.open()
            await peer.socket.send(whole)
            assert await asyncio.wait_for(peer.closed(), 15) in REFUSALS, whole
    assert complaints(brain) == []


async def test_a_bad_event_costs_only_itself(brain, credential):
    async with Neighbour(brain), Peer(brain.ws_url, credential, worker_id="w") as peer:
        for name, value in VALUES.items():
            for place in EVENT_PLACES:
                task = f"{name}-{place}"
                bad = {**life(task)[0], "occurred_at": NOW.isoformat(), place: "@"}
                group = [life(f"{task}-a")[0], bad, life(f"{task}-b")[0]]
                payload = canonical({"events": group}).replace(b'"@"', value)
                if len(payload) > 900_000:
                    continue
                identifier = uuid.uuid4().hex
                await peer.socket.send(peer.signer.seal_raw("event_batch", identifier, payload))
                ack = await asyncio.wait_for(peer.receive(), 30)
                assert ack.acked_id == identifier
                assert ack.received == ack.accepted + ack.rejected
                if _is_json(value):
                    assert ack.received == 3, (name, place)
                    assert ack.accepted >= 2, (name, place)
                else:
                    assert ack.received >= 1, (name, place)
    assert complaints(brain) == []


async def test_what_was_not_stored_is_shown_with_its_reason(brain, credential):
    async with Peer(brain.ws_url, credential) as peer:
        ack = await peer.deliver([life("shown")[0], {**life("shown")[1], "engine": 5}])
        assert (ack.accepted, ack.rejected) == (1, 1)
    page = await asyncio.to_thread(agents_page, brain)
    assert "not stored" in page
    assert "engine" in page


def agents_page(brain: BrainProcess) -> str:
    """Return the agents page of project ``default`` as the administrator sees it."""
    opener = build_opener(HTTPCookieProcessor())
    with opener.open(f"{brain.url}/login/", timeout=10) as answer:
        login = answer.read().decode()
    token = login.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    form = urlencode({"csrfmiddlewaretoken": token, "username": EMAIL, "password": PASSWORD}).encode()
    opener.open(f"{brain.url}/login/", form, timeout=10).close()
    with opener.open(f"{brain.url}/p/default/agents/", timeout=10) as answer:
        return answer.read().decode()


def _is_json(value: bytes) -> bool:
    """Tell whether an event that holds ``value`` can be told from its neighbours at all."""
    if value.count(b"[") + value.count(b"{") > 30:
        return False
    try:
        json.loads(value, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        return False
    return True
