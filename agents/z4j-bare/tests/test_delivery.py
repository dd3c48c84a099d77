from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from testbrain import Brain, until
from z4j_bare import AgentRuntime, RuntimeState
from z4j_core.events import TaskEvent
from z4j_core.frames import EventBatch
from z4j_core.signing import secret_text

Install = Callable[..., AgentRuntime]


def event(n: int, **data: Any) -> TaskEvent:
    return TaskEvent(kind="task.sent", engine="test", task_id=str(n), occurred_at=datetime.now(UTC), data=data)


def record(runtime: AgentRuntime, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        runtime.record_event(event(n))


def books_balance(runtime: AgentRuntime) -> bool:
    counters = runtime.counters()
    return bool(
        counters["produced"] + counters["adopted"]
        == counters["acked"] + counters["buffered"] + sum(counters["dropped"].values())
    )


def test_the_handshake_says_who_this_is(brain: Brain, agent: Install) -> None:
    runtime = agent(brain, agent_name="web-1", environment="prod", release="v7", tags={"team": "mail"})
    assert runtime.wait_connected(10)
    assert runtime.state is RuntimeState.CONNECTED
    hello = until(brain.live)[0].hello
    assert hello.framework == "bare"
    assert hello.runtime_features == ("z4j_batch_v1",)
    assert hello.worker_id is not None and hello.worker_id.startswith(f"bare-{hello.worker_pid}-")
    assert hello.host is not None
    assert {key: hello.host[key] for key in ("name", "environment", "release", "tags")} == {
        "name": "web-1", "environment": "prod", "release": "v7", "tags": {"team": "mail"},
    }  # fmt: skip


def test_events_arrive_once_in_order_and_in_batches(brain: Brain, agent: Install) -> None:
    runtime = agent(brain)
    record(runtime, 2000)
    until(lambda: len(brain.events) == 2000)
    assert [event["task_id"] for event in brain.events] == [str(n) for n in range(2000)]
    assert [event["data"]["_z4j"]["seq"] for event in brain.events] == list(range(1, 2001))
    assert len({event["data"]["_z4j"]["epoch"] for event in brain.events}) == 1
    assert len(brain.frames("event_batch")) < 100
    assert max(len(frame.events) for frame in brain.frames("event_batch")) <= 500
    until(lambda: runtime.counters()["acked"] == 2000)
    assert runtime.counters()["buffered"] == 0
    assert books_balance(runtime)


def test_secrets_are_removed_and_the_replay_refused(brain: Brain, agent: Install) -> None:
    runtime = agent(brain, redaction_extra_key_patterns=["customer"])
    runtime.record_event(event(1, args=[1], kwargs={"password": "hunter2", "customer_no": 7}, replayable=True))
    runtime.record_event(event(2, args=[1], kwargs={}, replayable=True, result="card 4111 1111 1111 1111 used"))
    until(lambda: len(brain.events) == 2)
    first, second = (event["data"] for event in brain.events)
    assert first["kwargs"] == {"password": "[redacted:key]", "customer_no": "[redacted:key]"}
    assert (first["replayable"], first["replay_reason"]) == (False, "arguments redacted")
    assert second["result"] == "card [redacted:card] used"
    assert second["replayable"] is True


def test_an_event_that_is_too_large_loses_its_heaviest_parts_only(brain: Brain, agent: Install) -> None:
    runtime = agent(brain, max_payload_bytes=2000)
    runtime.record_event(event(1, task_name="a.b", traceback="x" * 5000, args=["y" * 100], replayable=True))
    runtime.record_event(event(2, task_name="a.b", traceback="x" * 5000, args=["y" * 5000], replayable=True))
    until(lambda: len(brain.events) == 2)
    first, second = (event["data"] for event in brain.events)
    assert first["args"] == ["y" * 100]
    assert first["replayable"] is True
    assert first["traceback"] == "[removed: the event was too large]"
    assert (second["args"], second["replayable"], second["replay_reason"]) == (None, False, "arguments truncated")


def test_what_was_not_acknowledged_is_sent_again_with_the_same_ids(brain: Brain, agent: Install) -> None:
    brain.acknowledge = False
    runtime = agent(brain)
    record(runtime, 700)
    until(lambda: len(brain.events) == 700)
    first = [event["id"] for event in brain.events]
    brain.acknowledge = True
    brain.drop()
    until(lambda: len(brain.sessions) == 2)
    again = until(
        lambda: (
            [e["id"] for b in brain.sessions[1].batches for e in b.events][:700]
            if len([e for b in brain.sessions[1].batches for e in b.events]) >= 700
            else None
        )
    )
    assert again == first
    until(lambda: runtime.counters()["buffered"] == 0)
    assert books_balance(runtime)


def test_nothing_is_lost_when_the_connection_breaks_again_and_again(brain: Brain, agent: Install) -> None:
    runtime = agent(brain)
    for round_ in range(4):
        record(runtime, 300, round_ * 300)
        until(brain.live)
        brain.drop(4012 if round_ % 2 else None)
    until(lambda: len(brain.events) == 1200, 30)
    assert {event["task_id"] for event in brain.events} == {str(n) for n in range(1200)}


def test_cumulative_acknowledgements_are_understood(brain: Brain, agent: Install) -> None:
    brain.acknowledge_through = True
    runtime = agent(brain)
    for round_ in range(6):
        record(runtime, 500, round_ * 500)
        until(lambda count=round_: len(brain.events) == (count + 1) * 500)
    until(lambda: sum(len(s.batches) for s in brain.sessions) >= 6)
    assert runtime.counters()["buffered"] < 3000
    assert books_balance(runtime)


def test_a_poisonous_event_does_not_stop_the_stream(brain: Brain, agent: Install) -> None:
    def refuse(batch: EventBatch) -> int | None:
        return 4400 if any(event["task_id"] == "3" for event in batch.events) else None

    brain.refuse = refuse
    runtime = agent(brain, reconnect_backoff_max=0.3)
    record(runtime, 8)
    until(lambda: len(brain.events) == 7, 30)
    until(lambda: runtime.counters()["dropped"] == {"rejected": 1})
    assert books_balance(runtime)


def test_frames_stay_under_the_size_the_brain_accepts(agent: Install) -> None:
    with Brain(max_frame=8192) as brain:
        runtime = agent(brain)
        for n in range(60):
            runtime.record_event(event(n, result="x" * 1000))
        until(lambda: len(brain.events) == 60)
        assert len(brain.sessions) == 1
        runtime.stop()


def test_overflow_is_counted_and_told(brain: Brain, agent: Install) -> None:
    brain.acknowledge = False
    runtime = agent(brain, buffer_size=100, heartbeat_interval=0.2)
    record(runtime, 1000)
    beat = until(lambda: next((b for b in brain.frames("heartbeat") if b.dropped_events == 900), None))
    loss = beat.telemetry_loss
    assert (loss["event_records"], loss["capacity_evicted_frames"]) == (900, 900)
    assert loss["counters"]["dropped"] == {"buffer_full": 900}
    assert [(gap["from"], gap["to"], gap["reason"], gap["count"]) for gap in loss["gap"]] == [
        (1, 900, "buffer_full", 900)
    ]
    assert books_balance(runtime)


def test_heartbeats_and_status_are_sent_at_the_brain_s_interval(brain: Brain, agent: Install) -> None:
    agent(brain)
    until(lambda: len(brain.frames("heartbeat")) >= 2 and len(brain.frames("agent_status")) >= 2, 5)
    status = brain.frames("agent_status")[-1]
    assert status.agent_version
    assert status.last_successful_connect_at
    assert status.current_session_age_seconds > 0.5


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda brain: setattr(brain, "token", "another"), "does not accept the token"),
        (lambda brain: setattr(brain, "secret", b"another"), "check hmac_secret"),
        (lambda brain: setattr(brain, "skew", 120.0), "120 s behind"),
        (lambda brain: setattr(brain, "reject_with", 4426), "another protocol version"),
    ],
)
def test_a_refusal_is_explained_once_and_tried_slowly(
    brain: Brain, agent: Install, caplog: pytest.LogCaptureFixture, break_it: Any, said: str
) -> None:
    break_it(brain)
    caplog.set_level(logging.INFO, "z4j")
    runtime = agent(brain)
    until(lambda: any(said in record.getMessage() for record in caplog.records), what=said)
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    runtime.stop()
    assert runtime.config.token not in caplog.text
    assert "z4j_agent_" not in repr(runtime) + repr(runtime.config)


@pytest.mark.parametrize(("status", "slowly"), [(401, True), (403, True), (404, False)])
def test_an_upgrade_that_is_refused_is_not_blamed_on_the_token(
    brain: Brain, agent: Install, caplog: pytest.LogCaptureFixture, status: int, slowly: bool
) -> None:
    brain.upgrade_status = status
    caplog.set_level(logging.INFO, "z4j")
    agent(brain, brain_url=f"{brain.url}/wrong", reconnect_backoff_max=0.3)
    said = (
        f"answered HTTP {status} to the WebSocket upgrade at {brain.url.replace('http', 'ws')}/wrong/ws/agent: is the"
    )
    line = until(lambda: next((r.getMessage() for r in caplog.records if said in r.getMessage()), None))
    assert "does a proxy allow WebSockets? Events are kept." in line
    assert ("more slowly" in line) is slowly


def test_a_question_ends_a_sentence(brain: Brain, agent: Install, caplog: pytest.LogCaptureFixture) -> None:
    brain.reject_with = 4401
    caplog.set_level(logging.INFO, "z4j")
    agent(brain)
    until(lambda: "its project not archived? Events are kept. The agent" in caplog.text)


@pytest.mark.parametrize("silent", [False, True], ids=["answers in plain text", "waits for more"])
def test_tls_to_a_plain_server_is_explained_at_once(
    brain: Brain, agent: Install, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr("z4j_bare.transports.websocket._TLS_TIMEOUT", 0.5)
    caplog.set_level(logging.INFO, "z4j")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if silent else brain.url.rpartition(":")[2]
        agent(brain, brain_url=f"https://127.0.0.1:{port}", reconnect_backoff_max=0.3)
        until(lambda: f"the TLS handshake with 127.0.0.1:{port} failed" in caplog.text, 5)
    assert "does it speak TLS, or did you mean http://? Events are kept." in caplog.text


def test_a_given_hmac_secret_is_used(brain: Brain, agent: Install) -> None:
    brain.secret = b"s" * 32
    runtime = agent(brain, hmac_secret=secret_text(b"s" * 32))
    record(runtime, 1)
    until(lambda: len(brain.events) == 1)


def test_events_before_the_brain_is_there_are_kept(agent: Install, tmp_path: Path) -> None:
    absent = Brain()
    with absent:
        pass
    runtime = agent(absent, reconnect_backoff_max=0.3)
    record(runtime, 50)
    until(lambda: runtime.counters().get("buffered") == 50)
    with absent:
        until(lambda: len(absent.events) == 50)
        until(lambda: runtime.counters()["buffered"] == 0)
        runtime.stop()
    assert list((tmp_path / "buffers").iterdir()) == []


def test_stopping_delivers_what_is_there_in_bounded_time(brain: Brain, agent: Install) -> None:
    runtime = agent(brain)
    assert runtime.wait_connected(10)
    record(runtime, 3000)
    runtime.stop()
    assert len(brain.events) == 3000
    assert runtime.state is RuntimeState.STOPPED
    assert not [thread for thread in threading.enumerate() if thread.name == "z4j-agent"]
    record(runtime, 1)
    assert len(brain.events) == 3000


def test_the_last_words_carry_the_final_counters(agent: Install) -> None:
    with Brain(heartbeat=3600) as brain:
        runtime = agent(brain)
        until(lambda: brain.frames("agent_status"))
        record(runtime, 3)
        runtime.stop()
        until(lambda: len(brain.frames("agent_status")) == 2)
        beat, status = brain.frames("heartbeat")[-1], brain.frames("agent_status")[-1]
        counters = beat.telemetry_loss["counters"]
        assert (counters["produced"], counters["acked"], beat.buffer_size, status.buffer_depth) == (3, 3, 0, 0)


def test_what_an_adapter_lost_is_in_the_books(brain: Brain, agent: Install) -> None:
    runtime = agent(brain, heartbeat_interval=0.2)
    record(runtime, 2)
    runtime.record_loss(7, "child_pipe_full")
    beat = until(lambda: next((b for b in brain.frames("heartbeat") if b.dropped_events == 7), None))
    assert beat.telemetry_loss["counters"]["dropped"] == {"child_pipe_full": 7}
    assert runtime.counters()["produced"] == 9
    assert books_balance(runtime)


def test_draining_waits_for_the_acknowledgement(brain: Brain, agent: Install) -> None:
    runtime = agent(brain)
    record(runtime, 10)
    assert runtime.drain(10)
    assert len(brain.events) == 10
    brain.acknowledge = False
    record(runtime, 1, 10)
    assert not runtime.drain(0.3)


def test_a_failing_adapter_and_a_hostile_event_do_not_reach_the_host(brain: Brain, agent: Install) -> None:
    runtime = agent(brain)
    runtime.record_event(None)  # type: ignore[arg-type]
    runtime.record_event(event(1, args=object()))
    runtime.record_event(event(2))
    until(lambda: runtime.counters().get("acked") == 1)
    assert [event["task_id"] for event in brain.events] == ["2"]
    assert runtime.counters()["dropped"] == {"redaction_error": 1, "not_json": 1}
    assert books_balance(runtime)
