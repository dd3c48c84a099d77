"""A real worker on Valkey, in a process of its own, that reports to the test brain."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from testbrain import TOKEN, Brain, Session, until

HERE = Path(__file__).parent


@dataclasses.dataclass
class Worker:
    """A running worker: its process, the client's app for its queue, and its session with the brain."""

    process: subprocess.Popen[str]
    app: Celery
    brain: Brain
    session: Session
    log: Path

    def send(self, name: str, *args: Any, **options: Any) -> str:
        """Publish a task of the worker's app (without an agent) and return its id."""
        return str(self.app.send_task(f"workerapp.{name}", args=args, **options).id)

    def story(self, task_id: str) -> list[tuple[str, int]]:
        """Return kind and attempt of a task's events, in the order of arrival."""
        events = self.brain.of_task(task_id)
        return [(event["kind"].partition(".")[2], event["data"]["attempt"]) for event in events]

    def event(self, task_id: str, kind: str) -> dict[str, Any]:
        """Wait for an event and return its data."""

        def find() -> dict[str, Any] | None:
            found = [event for event in self.brain.of_task(task_id) if event["kind"] == f"task.{kind}"]
            return found[0]["data"] if found else None

        data: dict[str, Any] = until(find, 20, f"{kind} of {task_id}, have {self.brain.of_task(task_id)}")
        return data

    def command(self, action: str, task_id: str, **parameters: Any) -> Any:
        """Send a command to the worker's agent."""
        return self.brain.command(action, session=self.session, engine="celery", task_id=task_id, **parameters)

    def stop(self) -> None:
        """Stop the worker warmly."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
                raise


def broker(valkey_url: str) -> str:
    return f"{valkey_url}/5"


def start_worker(directory: Path, valkey_url: str, brain: Brain, *arguments: str) -> Worker:
    queue = f"q{uuid4().hex[:8]}"
    environ = {
        **os.environ,
        "TEST_BROKER": broker(valkey_url),
        "TEST_QUEUE": queue,
        "Z4J_BRAIN_URL": brain.url,
        "Z4J_TOKEN": TOKEN,
        "Z4J_BUFFER_PATH": str(directory / "buffers"),
        "PYTHONPATH": str(HERE),
    }
    log = directory / f"{queue}.log"
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workerapp",
        "worker",
        "-c",
        "2",
        "-l",
        "INFO",
        "-n",
        f"{queue}@test",
    ]
    with log.open("w") as output:
        process = subprocess.Popen([*command, *arguments], env=environ, stdout=output, stderr=output, text=True)
    app = Celery(broker=broker(valkey_url), backend=broker(valkey_url), set_as_current=False)
    app.conf.update(task_default_queue=queue)
    try:
        before = len(brain.sessions)
        session = until(lambda: brain.sessions[before:], 20, f"the worker's agent: {log}")[0]
    except AssertionError:
        process.kill()
        process.wait(10)
        raise AssertionError(log.read_text()) from None
    return Worker(process, app, brain, session, log)


@pytest.fixture
def worker(tmp_path: Path, valkey_url: str, brain: Brain) -> Iterator[Callable[..., Worker]]:
    """Start workers: ``worker("-P", "solo")``."""
    started: list[Worker] = []

    def start(*arguments: str) -> Worker:
        started.append(start_worker(tmp_path, valkey_url, brain, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.stop()
        one.app.close()


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Iterator[Worker]:
    """One worker for each pool, shared by the tests of a module."""
    with Brain() as brain:
        one = start_worker(tmp_path_factory.mktemp("pool"), valkey_url, brain, "-P", request.param)
        yield one
        one.stop()
        one.app.close()
