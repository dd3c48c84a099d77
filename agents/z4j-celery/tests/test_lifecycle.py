"""The life of a task as the brain is told it, in each pool, by a worker that publishes no events (no ``-E``)."""

from __future__ import annotations

import re
from typing import Any

from testbrain import until


def test_a_success_is_told_from_arrival_to_result(pool: Any) -> None:
    task_id = pool.send("add", 1, kwargs={"b": 2, "password": "hunter2"}, priority=3)
    succeeded = pool.event(task_id, "succeeded")
    assert pool.story(task_id) == [("received", 0), ("started", 0), ("succeeded", 0)]
    received = pool.event(task_id, "received")
    assert received["args"] == [1]
    assert received["kwargs"] == {"b": 2, "password": "[redacted:key]"}
    assert (received["replayable"], received["replay_reason"]) == (False, "arguments redacted")
    assert (received["root_task_id"], received["priority"]) == (task_id, 3)
    assert succeeded["result"] == "3"
    assert succeeded["runtime_ms"] >= 0
    for event in pool.brain.of_task(task_id):
        data = event["data"]
        assert (data["task_name"], data["queue"]) == ("workerapp.add", pool.app.conf.task_default_queue)
        assert data["worker"] == f"{pool.app.conf.task_default_queue}@test"


def test_plain_arguments_can_be_replayed(pool: Any) -> None:
    assert pool.event(pool.send("add", 1, kwargs={"b": 2}), "received")["replayable"] is True


def test_a_failure_carries_exception_message_and_traceback(pool: Any) -> None:
    task_id = pool.send("fail")
    failed = pool.event(task_id, "failed")
    assert (failed["exception"], failed["exception_message"]) == ("workerapp.Boom", "it\nbroke")
    assert failed["traceback"].startswith("Traceback (most recent call last)")
    assert pool.story(task_id) == [("received", 0), ("started", 0), ("failed", 0)]


def test_every_attempt_is_told_with_its_number(pool: Any) -> None:
    task_id = pool.send("again")
    assert pool.event(task_id, "succeeded")["result"] == "'at last'"
    story = until(lambda: sorted(pool.story(task_id)) if len(pool.story(task_id)) >= 11 else None)
    assert story == [
        ("received", 0), ("received", 1), ("received", 2),
        ("retried", 0), ("retried", 1),
        ("sent", 1), ("sent", 2),
        ("started", 0), ("started", 1), ("started", 2),
        ("succeeded", 2),
    ]  # fmt: skip
    assert "not yet" in pool.event(task_id, "retried")["reason"]


def test_a_subtask_is_told_as_sent_with_its_parent(pool: Any) -> None:
    parent = pool.send("spawn")
    child = pool.event(parent, "succeeded")["result"].strip("'")
    sent = pool.event(child, "sent")
    assert (sent["parent_task_id"], sent["root_task_id"], sent["args"]) == (parent, parent, [1, 2])
    pool.event(child, "succeeded")


def test_a_large_subtask_is_told_with_its_arguments_by_its_receiver(pool: Any) -> None:
    parent = pool.send("spawn", 9000)
    child = pool.event(parent, "succeeded")["result"].strip("'")
    assert pool.event(child, "sent")["task_name"] == "workerapp.add"
    assert len(pool.event(child, "received")["kwargs"]["text"]) == 9000


def test_an_unknown_task_fails_by_its_name(pool: Any) -> None:
    task_id = pool.app.send_task("no.such.task").id
    failed = pool.event(task_id, "failed")
    assert (failed["task_name"], failed["exception"]) == ("no.such.task", "celery.exceptions.NotRegistered")
    assert pool.story(task_id) == [("failed", 0)]


def test_a_rejected_task_is_told(pool: Any) -> None:
    task_id = pool.send("reject")
    pool.event(task_id, "rejected")
    assert pool.story(task_id)[:3] == [("received", 0), ("started", 0), ("failed", 0)]


def test_an_expired_task_is_revoked(pool: Any) -> None:
    task_id = pool.send("add", 1, expires=-5)
    revoked = pool.event(task_id, "revoked")
    assert (revoked["reason"], revoked["task_name"]) == ("expired", "workerapp.add")


def test_health_tells_broker_queues_and_worker(pool: Any) -> None:
    health = until(lambda: pool.brain.heartbeat_with("celery.worker_details")).adapter_health
    assert (health["celery.broker_type"], health["celery.broker_connected"]) == ("redis", "true")
    assert re.fullmatch(r'\{"q\w+": \d+\}', health["celery.queue_depths"])
    assert f'"pid": {pool.session.hello.worker_pid}' in health["celery.worker_details"]
    assert pool.session.hello.worker_role == "task"
    assert pool.session.hello.capabilities == {"celery": ["cancel_task", "retry_task"]}


def test_only_the_main_process_is_connected(pool: Any) -> None:
    assert [session.hello.worker_pid for session in pool.brain.sessions] == [pool.process.pid]
    assert pool.brain.failures == []
