"""The gateway over real sockets: acknowledgement, refusals with the right close code, drain."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import uuid

import pytest
import websockets
from z4j_core import limits
from z4j_core.frames import CommandAck, EventBatch, Heartbeat, Hello, encode
from z4j_core.signing import Binding, Signer, canonical, secret_text

from tests.brainprocess import BrainProcess, eventually, running_brain
from tests.conftest import life
from tests.wire.peer import Peer


@pytest.fixture(scope="module")
def brain():
    """A brain for the tests of this file."""
    with running_brain() as process:
        yield process


@pytest.fixture(scope="module")
def credential(brain: BrainProcess) -> dict[str, str]:
    """A credential of project ``default``."""
    return brain.mint("gateway")


async def test_events_are_acknowledged_and_visible(brain, credential):
    async with Peer(brain.ws_url, credential) as peer:
        ack = await peer.deliver([*life("g1"), *life("g2")])
        assert (ack.received, ack.accepted, ack.rejected) == (8, 8, 0)
    rows = brain.query("list(Task.objects.filter(task_id__in=['g1','g2']).values_list('state', flat=True))")
    assert rows == ["succeeded", "succeeded"]


async def test_text_messages_and_any_spelling_of_json_are_accepted(brain, credential):
    async with Peer(brain.ws_url, credential) as peer:
        sealed = peer.signer.seal(EventBatch(id="spelled", events=tuple(life("é-1"))))
        await peer.socket.send(json.dumps(json.loads(sealed), indent=1))
        ack = await peer.receive()
        assert (ack.acked_id, ack.accepted) == ("spelled", 4)


async def test_bad_events_are_acknowledged_and_counted_as_rejected(brain, credential):
    async with Peer(brain.ws_url, credential) as peer:
        ack = await peer.deliver([life("g3")[0], {"kind": "task.sent"}])
        assert (ack.received, ack.accepted, ack.rejected) == (2, 1, 1)


async def test_agents_with_the_batch_feature_get_cumulative_acks(brain, credential):
    async with Peer(brain.ws_url, credential, runtime_features=("z4j_batch_v1",)) as peer:
        for number in range(20):
            await peer.send(EventBatch(id=f"b{number}", events=tuple(life(f"c{number}"))))
        received = 0
        while received < 80:
            ack = await peer.receive()
            received += ack.received
        assert ack.acked_id == "b19"
        assert ack.acked_through == 20
        assert ack.credit > 0


def line_about(brain: BrainProcess, code: int) -> list[str]:
    """Return the log lines that tell of a close code."""
    return [line for line in brain.text().splitlines() if f"closed with {code}" in line]


async def refused(
    brain: BrainProcess, credential: dict[str, str], first: bytes | None, then: bytes | None = None
) -> int:
    """Open a socket, send up to two messages, return the close code."""
    peer = Peer(brain.ws_url, credential)
    await peer.open()
    if first is not None:
        await peer.socket.send(first)
    if then is not None:
        await peer.socket.recv()
        await peer.socket.send(then)
    return await asyncio.wait_for(peer.closed(), 15)


HELLO = canonical(encode(Hello(id="h", worker_id="w")))


@pytest.mark.parametrize(
    ("code", "first", "then"),
    [
        (4400, b"nonsense", None),
        (4400, b"[]", None),
        (4400, b'{"v":2,"type":"hello","id":"x","payload":{"engines":5}}', None),
        (4400, b'{"v":2,"type":"heartbeat","id":"x","payload":{}}', None),
        (4400, b'{"v":2,"type":"dance","id":"x","payload":{}}', None),
        (4400, b"[" * 200_000, None),
        (4426, b'{"v":3,"type":"hello","id":"x","payload":{}}', None),
        (4426, b'{"v":2,"type":"hello","id":"x","payload":{"protocol_version":"3"}}', None),
        (1009, b"x" * (limits.MAX_FRAME_BYTES + 1), None),
        (4403, HELLO, b'{"v":2,"type":"heartbeat","id":"x","payload":{}}'),
        (4400, b'{"v":2,"type":"hello","id":"\\ud800","payload":{}}', None),
        (4400, b'{"v":2,"type":"hello","id":"line\\nbreak","payload":{}}', None),
        (4400, HELLO, b"{"),
        (4400, HELLO, b"\xff\xfe"),
        (4400, HELLO, b'{"a":NaN}'),
        (1009, HELLO, b"x" * (limits.MAX_FRAME_BYTES + 1)),
    ],
)
async def test_bad_input_gets_its_close_code_and_one_log_line(brain, credential, code, first, then):
    async with Peer(brain.ws_url, credential) as neighbour:
        before = len(line_about(brain, code))
        assert await refused(brain, credential, first, then) == code
        if code != 1009:
            assert len(line_about(brain, code)) == before + 1
        assert (await neighbour.deliver(life("n")[:1])).received == 1
    assert "Traceback" not in brain.text()


async def test_odd_text_in_hello_is_cleaned_and_leaves_nothing_behind(brain, credential):
    odd = {"capabilities": {"x\x00": ["retry_task", "no thing", 5], "y": 1}, "schedulers": ("a\x00",)}
    async with Peer(brain.ws_url, credential, worker_id="odd\x00", runtime_features=("\x00",), **odd) as peer:
        assert (await peer.deliver(life("odd")[:1])).accepted == 1
    find = "list(AgentProcess.objects.filter(worker_id__startswith='odd').values_list('capabilities', 'state'))"
    eventually(lambda: brain.query(find) == [[{"x␀": ["retry_task"]}, "offline"]], timeout=10, interval=0.5)


async def test_a_flood_of_heartbeats_with_many_queues_does_not_hold_up_others(brain, credential):
    depths = json.dumps({f"queue-{number}": number for number in range(3000)})
    flood = Heartbeat(id="1", adapter_health={f"e{n}.queue_depths": depths for n in range(8)})
    async with Peer(brain.ws_url, credential) as noisy, Peer(brain.ws_url, credential) as quiet:
        for _ in range(30):
            await noisy.send(flood)
        assert (await asyncio.wait_for(quiet.deliver(life("quiet")[:1]), 5)).accepted == 1
    assert "Traceback" not in brain.text()


async def test_a_wrong_or_missing_token_is_closed_with_4401(brain, credential):
    assert await refused(brain, {**credential, "token": "z4j_agent_wrong"}, None) == 4401
    async with websockets.connect(brain.ws_url) as socket:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd.code == 4401
    assert "z4j_agent_wrong" not in brain.text()


async def test_a_browser_is_refused_before_the_upgrade(brain, credential):
    for header in ({"Origin": brain.url}, {"Cookie": "a=b"}):
        with pytest.raises(websockets.InvalidStatus) as refused_:
            await websockets.connect(
                brain.ws_url, additional_headers={"Authorization": f"Bearer {credential['token']}", **header}
            )
        assert refused_.value.response.status_code == 403


async def test_a_wrong_hmac_secret_is_closed_with_4403(brain, credential):
    wrong = {**credential, "hmac_secret": secret_text(b"x" * 32)}
    async with Peer(brain.ws_url, wrong) as peer:
        await peer.send(Heartbeat(id="1"))
        assert await peer.closed() == 4403


async def test_a_replayed_frame_and_one_of_another_session_are_closed_with_4403(brain, credential):
    async with Peer(brain.ws_url, credential) as peer:
        sealed = peer.signer.seal(Heartbeat(id="1"))
        await peer.socket.send(sealed)
        await peer.socket.send(sealed)
        assert await peer.closed() == 4403
    async with Peer(brain.ws_url, credential) as peer:
        await peer.socket.send(sealed)
        assert await peer.closed() == 4403


async def test_a_frame_bound_to_another_project_is_closed_with_4403(brain, credential):
    async with Peer(brain.ws_url, credential) as peer:
        binding = Binding(credential["agent_id"], str(uuid.uuid4()), "0" * 32)
        await peer.socket.send(Signer(b"k", binding).seal(Heartbeat(id="1")))
        assert await peer.closed() == 4403


async def test_a_clock_off_by_an_hour_is_told_so_before_4403(brain, credential):
    async with Peer(brain.ws_url, credential) as peer:
        import time

        peer.signer._clock = lambda: time.time() - 3600
        await peer.send(Heartbeat(id="1"))
        error = await peer.receive()
        assert (error.type, error.code, error.fatal) == ("error", "clock_skew", True)
        assert re.search(r"3[56]\d\d s behind", error.message)
        assert await peer.closed() == 4403


async def test_a_frame_only_the_brain_may_send_is_refused(brain, credential):
    from z4j_core.frames import CommandFrame

    async with Peer(brain.ws_url, credential) as peer:
        await peer.send(CommandFrame(id="c", action="retry_task"))
        assert await peer.closed() == 4400


async def test_an_ack_for_no_command_is_tolerated(brain, credential):
    async with Peer(brain.ws_url, credential) as peer:
        await peer.send(CommandAck(id="not-a-uuid"))
        await peer.send(CommandAck(id=str(uuid.uuid4())))
        assert (await peer.deliver(life("tolerated")[:1])).accepted == 1


async def test_a_nameless_agent_is_replaced_by_its_newer_connection(brain, credential):
    nameless = [Peer(brain.ws_url, credential, worker_id=None) for _ in range(2)]
    async with nameless[0] as older, nameless[1]:
        assert await asyncio.wait_for(older.closed(), 10) == 4002


async def test_heartbeats_show_the_process_and_its_buffer(brain, credential):
    async with Peer(brain.ws_url, credential, worker_id="beat", host={"name": "h1"}) as peer:
        await peer.send(Heartbeat(id="1", buffer_size=7, dropped_events=2, adapter_health={"celery.notes": "x"}))
        await peer.deliver([])
    row = brain.query(
        "list(AgentProcess.objects.filter(worker_id='beat').values_list('host','buffer_depth','dropped','state'))"
    )
    assert row == [["h1", 7, 2, "offline"]]


async def test_sigterm_writes_and_acknowledges_what_was_received_then_closes_with_4012():
    with running_brain() as own:
        credential = own.mint("drain")
        async with Peer(own.ws_url, credential) as peer:
            for number in range(50):
                await peer.send(EventBatch(id=f"d{number}", events=tuple(life(f"d{number}"))))
            await peer.receive()
            stopping = asyncio.create_task(asyncio.to_thread(own.stop, signal.SIGTERM))
            acked = 1
            try:
                while True:
                    await peer.receive()
                    acked += 1
            except websockets.ConnectionClosed as closed:
                assert closed.rcvd is not None
                assert closed.rcvd.code == 4012
            assert await stopping == 0
        stored = own.query("Event.objects.count()")
        assert stored >= acked * 4
        assert "Traceback" not in own.text(), own.text()


async def test_a_revoked_credential_is_closed_with_4003_and_then_refused_with_4401(brain):
    credential = brain.mint("to-revoke")
    async with Peer(brain.ws_url, credential) as peer:
        brain.query("Agent.objects.filter(name='to-revoke').update(revoked_at=Now())")
        await peer.send(Heartbeat(id="1"))
        assert await asyncio.wait_for(peer.closed(), 10) == 4003
    assert await refused(brain, credential, None) == 4401


def test_the_brain_shows_its_own_process_under_project_z4j():
    with running_brain(Z4J_SELF_AGENT="true") as own:
        find = "list(AgentProcess.objects.filter(project__slug='z4j').values_list('framework', 'state'))"
        eventually(lambda: own.query(find) == [["django", "online"]], timeout=20, interval=0.5)
        assert own.stop() == 0
        assert "Traceback" not in own.text()
