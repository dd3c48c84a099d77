"""What happens in a pool's children, without a worker: interrupts inside the hooks, and the pipe to the parent."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from z4j_celery.childpipe import ChildPipe
from z4j_core.events import TaskEvent

INTERRUPTED = """
import os, signal, sys, threading, time
from celery import Celery, signals
from celery.exceptions import SoftTimeLimitExceeded
from z4j_celery import CeleryEngineAdapter
from z4j_core.safety import safe_boundary

class Sink:
    count = 0
    def record_event(self, event):
        with safe_boundary("agent.record"):
            Sink.count += 1
            time.sleep(0.002)  # the hook is where nearly every interrupt arrives

class Producer:
    connection = None
    def publish(self, body, **options): pass

def interrupt(*_):
    raise SoftTimeLimitExceeded()

if "early" in sys.argv:
    early = Celery("early", broker="memory://", set_as_current=False)
    early.amqp.send_task_message  # made before the agent is there
else:
    early = None
app = early or Celery("app", broker="memory://")
adapter = CeleryEngineAdapter(celery_app=app)
before = signals.after_task_publish.send
adapter.connect(Sink())
publish = lambda: app.amqp.send_task_message(Producer(), "add", app.amqp.as_task_v2("1", "add", (1,), {}))
if early is not None:
    publish()
    print(Sink.count)
    sys.exit()
publish()  # Celery makes its parts at the first use
signal.signal(signal.SIGUSR1, interrupt)
reached = 0
for _ in range(60):
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            publish()
    except SoftTimeLimitExceeded:
        reached += 1
adapter.disconnect()
seen = Sink.count
publish()  # by an app that has kept the tap
print(reached, seen > 60, Sink.count - seen, signals.after_task_publish.send == before)
adapter.connect(Sink())
publish()
print(Sink.count - seen)
"""


def run(*arguments: str) -> str:
    command = [sys.executable, "-c", INTERRUPTED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_soft_time_limit_inside_a_hook_reaches_the_task() -> None:
    assert run() == "60 True 0 True\n1\n"


def test_an_app_that_published_before_is_observed_once() -> None:
    assert run("early") == "1\n"


class Parent:
    """Takes what comes out of the pipe."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []
        self.lost: list[tuple[int, str]] = []

    def record_event(self, event: TaskEvent) -> None:
        self.events.append(event)

    def record_loss(self, count: int, reason: str) -> None:
        self.lost.append((count, reason))

    def ensure_running(self, role: str | None = None) -> None:
        pass

    def drain(self, timeout: float | None = None) -> bool:
        return True


def event(n: int, **data: Any) -> TaskEvent:
    return TaskEvent(kind="task.sent", engine="celery", task_id=str(n), occurred_at=datetime.now(UTC), data=data)


def test_an_event_comes_out_of_the_pipe_as_it_went_in() -> None:
    parent = Parent()
    pipe, sent = ChildPipe(parent), event(1, args=[1])
    pipe.send(sent)
    pipe.send(event(2, args=["x" * 9000], task_name="a.b"))
    pipe.drain()
    assert parent.events[0] == sent
    assert parent.events[1].data == {"task_name": "a.b", "replayable": False, "replay_reason": "arguments truncated"}
    assert parent.lost == []


def test_what_finds_no_room_in_the_pipe_is_counted() -> None:
    parent = Parent()
    pipe, count = ChildPipe(parent), 1500
    for n in range(count):
        pipe.send(event(n, text="x" * 3000))
    assert 15 <= count - pipe._lost < count
    pipe.drain()
    assert parent.lost == []
    pipe.send(event(count))
    pipe.send(event(count + 1))
    pipe.drain()
    assert [reason for _, reason in parent.lost] == ["child_pipe_full"]
    assert len(parent.events) + parent.lost[0][0] == count + 2


def test_a_child_that_ends_tells_what_it_lost() -> None:
    parent = Parent()
    pipe = ChildPipe(parent)
    pipe.send(event(1, text="x" * 9000))
    pipe.finish()
    pipe.finish()
    pipe.drain()
    assert (parent.events, parent.lost) == ([], [(1, "child_pipe_full")])
