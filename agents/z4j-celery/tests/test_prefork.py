"""What only a worker with child processes does, and workers with unusual options."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.client import PubSub
from testbrain import until


def test_a_lost_child_is_told_and_its_replacement_works(worker: Callable[..., Any]) -> None:
    one = worker("-P", "prefork")
    lost = one.event(one.send("die"), "failed")
    assert lost["exception"] == "billiard.exceptions.WorkerLostError"
    assert "exitcode 3" in lost["exception_message"]
    for _ in range(4):
        one.event(one.send("add", 1), "succeeded")
    assert len(one.brain.sessions) == 1


def test_a_hard_time_limit_is_told_once(worker: Callable[..., Any]) -> None:
    one = worker("-P", "prefork")
    task_id = one.send("hang")
    assert one.event(task_id, "failed")["exception"] == "billiard.exceptions.TimeLimitExceeded"
    one.event(one.send("add", 1), "succeeded")
    assert one.story(task_id) == [("received", 0), ("started", 0), ("failed", 0)]


def test_children_that_live_for_one_task_report_all_of_them(worker: Callable[..., Any]) -> None:
    one = worker("-P", "prefork", "--max-tasks-per-child", "1")
    parents = [one.send("spawn") for _ in range(6)]
    for parent in parents:
        child = one.event(parent, "succeeded")["result"].strip("'")
        one.event(child, "sent")
        one.event(child, "succeeded")
    assert len(one.brain.sessions) == 1


def published_events(one: Any, listener: PubSub) -> list[str]:
    """Return the channels on which Celery has published events since the last call."""
    channels = []
    while (message := listener.get_message(ignore_subscribe_messages=True, timeout=0.1)) is not None:
        channels.append(message["channel"].decode())
    return [channel for channel in channels if "celeryev/task" in channel]


@pytest.fixture
def listener(valkey_url: str) -> Iterator[PubSub]:
    """What is published on the broker."""
    with Redis.from_url(f"{valkey_url}/5") as client, client.pubsub() as subscription:
        subscription.psubscribe("*celeryev*")
        yield subscription


def test_a_worker_without_gossip_and_heartbeat_is_observed_and_publishes_nothing(
    worker: Callable[..., Any], listener: PubSub
) -> None:
    one = worker("-P", "prefork", "--without-gossip", "--without-heartbeat")
    task_id = one.send("add", 1)
    one.event(task_id, "succeeded")
    one.event(one.send("fail"), "failed")
    assert published_events(one, listener) == []
    assert one.story(task_id) == [("received", 0), ("started", 0), ("succeeded", 0)]


def test_a_worker_with_events_on_still_publishes_them(worker: Callable[..., Any], listener: PubSub) -> None:
    one = worker("-P", "prefork", "-E")
    task_id = one.send("add", 1)
    one.event(task_id, "succeeded")
    until(lambda: published_events(one, listener))
    assert one.story(task_id) == [("received", 0), ("started", 0), ("succeeded", 0)]


def test_a_warm_shutdown_delivers_everything(worker: Callable[..., Any]) -> None:
    one = worker("-P", "prefork")
    ids = [one.send("add", n) for n in range(30)]
    one.event(ids[-1], "succeeded")
    one.stop()
    assert one.process.returncode == 0
    assert "Traceback" not in one.log.read_text()
    for task_id in ids:
        assert ("succeeded", 0) in one.story(task_id)


def test_a_killed_worker_leaves_its_events_to_the_next(worker: Callable[..., Any], brain: Any) -> None:
    one = worker("-P", "solo")
    brain.reject_with = 4012
    brain.drop()
    task_id = one.send("add", 1)
    until(lambda: one.app.backend.get_task_meta(task_id)["status"] == "SUCCESS")
    until(lambda: b"task.succeeded" in b"".join(p.read_bytes() for p in (one.log.parent / "buffers").glob("*.db*")))
    os.kill(one.process.pid, signal.SIGKILL)
    one.process.wait(10)
    brain.reject_with = None
    worker("-P", "solo")
    until(lambda: [event["kind"] for event in brain.of_task(task_id)] == [
        "task.received", "task.started", "task.succeeded",
    ])  # fmt: skip


def test_a_soft_time_limit_reaches_a_task_that_publishes(worker: Callable[..., Any]) -> None:
    one = worker("-P", "prefork")
    for task_id in [one.send("publish_until_interrupted") for _ in range(4)]:
        assert one.event(task_id, "succeeded")["result"].startswith("'interrupted after ")
