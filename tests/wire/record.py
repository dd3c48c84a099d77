"""Records golden frames: ``python -m tests.wire.record NAME [NAME …]``, or all that are missing without a name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from z4j_core import frames
from z4j_core.signing import Binding, Signer, canonical

GOLDEN = Path(__file__).parent / "golden"
BINDING = Binding(
    "0b5f8f6e-3c1c-4b8e-9a53-0a5d1c1f2e3d", "7d9a2f10-52b4-4b0e-8f6b-6f1e5a0c9b8d", "5e0f4c1b2a3d4e5f60718293a4b5c6d7"
)
SECRET = bytes(range(32))
CLOCK = 1_790_000_000.25
NONCE = "Z29sZGVuLW5vbmNlLTAwMQ"

EVENT = {
    "id": "1b4e28ba-2fa1-41d2-883f-0016d3cca427",
    "kind": "task.succeeded",
    "engine": "celery",
    "task_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "occurred_at": "2026-09-21T13:33:20.250000+00:00",
    "data": {"task_name": "shop.größe", "attempt": 0, "result": "9007199254740993", "runtime_ms": 12.5},
}

SAMPLES: dict[str, frames.Frame] = {
    "hello": frames.Hello(
        id="h1", ts="2026-09-21T13:33:20+00:00", agent_version="0.1.0", framework="django", engines=("celery",),
        schedulers=(), capabilities={"celery": ["cancel_task", "retry_task"]}, host={"name": "web-1"},
        worker_id="django-41-1790000000250", worker_role="web", worker_pid=41,
        worker_started_at="2026-09-21T13:33:20+00:00", runtime_features=("z4j_batch_v1",),
    ),
    "hello_ack": frames.HelloAck(
        id="h1", ts="2026-09-21T13:33:20+00:00", brain_version="0.1.0", agent_id=BINDING.agent_id,
        project_id=BINDING.project_id, session_id=BINDING.session_id,
    ),
    "event_batch": frames.EventBatch(id="b1", events=(EVENT,)),
    "event_batch_ack": frames.EventBatchAck(id="a1", acked_id="b1", received=1, accepted=1),
    "event_batch_ack_cumulative": frames.EventBatchAck(
        id="a2", acked_id="b9", received=9, accepted=8, rejected=1, acked_through=12, credit=1048576
    ),
    "heartbeat": frames.Heartbeat(
        id="p1", buffer_size=3, dropped_events=1, last_flush_at="2026-09-21T13:33:20+00:00",
        telemetry_loss={"gap": {"from": 4, "to": 4, "reason": "ring_full", "count": 1}},
        adapter_health={"celery.broker_connected": "true", "celery.queue_depths": '{"mail": 3}'},
    ),
    "agent_status": frames.AgentStatus(id="s1", buffer_depth=3, current_session_age_seconds=1.5, engines=("celery",)),
    "command": frames.CommandFrame(
        id="2f1d7c3e-90ab-4cde-8f01-23456789abcd", action="retry_task",
        target={"type": "task", "id": "celery:6f96", "engine": "celery"},
        parameters={"task_id": "6f96", "engine": "celery", "override_args": [9007199254740993], "override_kwargs": {}},
        issued_by="alice@example.com",
    ),
    "command_ack": frames.CommandAck(id="2f1d7c3e-90ab-4cde-8f01-23456789abcd"),
    "command_result": frames.CommandResultFrame(
        id="2f1d7c3e-90ab-4cde-8f01-23456789abcd", status="success", result={"task_id": "7a", "verified": "published"}
    ),
    "command_result_failed": frames.CommandResultFrame(
        id="2f1d7c3e-90ab-4cde-8f01-23456789abcd", status="failed", error="the broker does not answer"
    ),
    "registry_delta": frames.RegistryDelta(id="r1", engine="celery", added=("shop.pay",)),
    "error": frames.ErrorFrame(id="e1", code="clock_skew", message="the sender's clock is 3600 s behind", fatal=True),
}  # fmt: skip


def record(name: str) -> dict[str, object]:
    """Return what a golden file holds for one sample."""
    frame = SAMPLES[name]
    if frame.signed:
        wire = Signer(SECRET, BINDING, clock=lambda: CLOCK, nonce=lambda: NONCE).seal(frame)
    else:
        wire = canonical(frames.encode(frame))
    document = json.loads(wire)
    return {
        "type": frame.type,
        "signed": frame.signed,
        "binding": BINDING.fields(),
        "secret_hex": SECRET.hex(),
        "clock": CLOCK,
        "bytes_hex": wire.hex(),
        "hmac": document.get("hmac"),
        "document": document,
    }


def main() -> None:
    """Write the files asked for."""
    names = sys.argv[1:] or [name for name in SAMPLES if not (GOLDEN / f"{name}.json").exists()]
    for name in names:
        with (GOLDEN / f"{name}.json").open("x", encoding="utf-8") as file:
            json.dump(record(name), file, indent=1, ensure_ascii=False, sort_keys=True)
            file.write("\n")
        print("recorded", name)


if __name__ == "__main__":
    main()
