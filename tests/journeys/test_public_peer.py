"""Interoperability: the unmodified public agents 1.13 in an environment of their own, against our brain."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brainprocess import BrainProcess, eventually, running_brain

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SHOP = """
import os, time
from celery import Celery
from z4j_bare import install_agent
from z4j_celery import CeleryEngineAdapter

app = Celery("shop", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(task_default_queue="peer", broker_connection_retry_on_startup=True)

@app.task(name="shop.ok")
def ok(number):
    return number

@app.task(name="shop.bad")
def bad(number):
    raise ValueError(f"no {number}")

@app.task(name="shop.slow")
def slow(seconds):
    time.sleep(seconds)

if os.environ.get("WITH_AGENT"):
    runtime = install_agent(engines=[CeleryEngineAdapter(celery_app=app)])
"""

ISSUE = """
from brain import commands
from brain.models import Project, Task, User
task = Task.objects.get(name="shop.slow")
print("=>", commands.issue_for_task(Project.objects.get(slug="default"), task, "cancel_task", User.objects.get()).id)
"""


@pytest.fixture(scope="module")
def peer_python(tmp_path_factory) -> Path:
    """A scratch environment with the public agents."""
    directory = tmp_path_factory.mktemp("peer")
    python = directory / "venv" / "bin" / "python"
    uv = [str(Path(sys.executable).with_name("uv"))]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(directory / "venv")], check=True)
    wanted = ["z4j-bare~=1.13.0", "z4j-celery~=1.13.0", "celery[redis]"]
    done = subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", str(python), *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = f"PEER TESTS NOT RUN: the public agents cannot be installed here: {done.stderr.strip()[-300:]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return python


class Peer:
    """A Celery app with the public agent: its worker and its client."""

    def __init__(self, python: Path, directory: Path, environment: dict[str, str]) -> None:
        (directory / "shop.py").write_text(SHOP)
        self.python, self.directory, self.environment = python, directory, environment
        self.log = directory / "worker.log"
        with self.log.open("wb") as log:
            self.worker = subprocess.Popen(
                [python, "-m", "celery", "-A", "shop", "worker", "-c", "2", "--loglevel", "INFO"],
                cwd=directory, env={**environment, "WITH_AGENT": "1"}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def send(self, code: str) -> None:
        """Run client code in the shop's namespace, without an agent."""
        script = "from shop import *\n" + textwrap.dedent(code)
        subprocess.run([self.python, "-c", script], cwd=self.directory, env=self.environment, check=True, timeout=60)

    def end(self) -> None:
        """End the worker at once: its public agent holds it up for long when asked politely."""
        import signal

        os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()


@pytest.fixture
def shop(peer_python, tmp_path, valkey_url) -> Iterator[tuple[BrainProcess, Peer]]:
    """The brain, and the public agent's worker pointed at it."""
    with running_brain() as brain:
        credential = brain.mint("public-peer")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("Z4J_")}
        environment = {
            **inherited,
            "HOME": str(tmp_path),
            "BROKER": f"{valkey_url}/9",
            "Z4J_BRAIN_URL": brain.url,
            "Z4J_TOKEN": credential["token"],
            "Z4J_HMAC_SECRET": credential["hmac_secret"],
            "Z4J_PROJECT_ID": "default",
        }
        peer = Peer(peer_python, tmp_path, environment)
        try:
            eventually(lambda: "connected: bare celery" in brain.text(), timeout=40)
            yield brain, peer
        finally:
            peer.end()


def counts(brain: BrainProcess) -> dict[str, int]:
    """Return how many tasks are in which (name, state)."""
    rows = brain.query("list(Task.objects.order_by().values_list('name','state').annotate(n=Count('id')))")
    return {f"{name} {state}": number for name, state, number in rows}


def test_the_public_agent_delivers_survives_a_restart_and_answers_a_cancel(shop):
    brain, peer = shop
    peer.send("for n in range(40): ok.delay(n)\nfor n in range(10): bad.delay(n)")
    eventually(lambda: counts(brain) == {"shop.ok succeeded": 40, "shop.bad failed": 10}, timeout=30, interval=0.5)

    assert brain.stop() == 0
    peer.send("for n in range(40): ok.delay(n)\nfor n in range(10): bad.delay(n)")
    brain.start()
    eventually(lambda: counts(brain) == {"shop.ok succeeded": 80, "shop.bad failed": 20}, timeout=60, interval=0.5)
    totals = dict(brain.query("list(MetricMinute.objects.order_by().values_list('measure').annotate(n=Sum('count')))"))
    assert (totals["succeeded"], totals["failed"], totals["started"]) == (80, 20, 100)
    assert brain.query("Task.objects.filter(replayable=True).count()") == 100
    assert brain.query("Quarantine.objects.count()") == 0

    peer.send("slow.apply_async((60,), countdown=600)")
    eventually(lambda: brain.query("Task.objects.filter(name='shop.slow').count()") == 1, timeout=20, interval=0.5)
    command = brain.manage("shell", "-v0", "-c", ISSUE).split("=>")[1].strip()
    state = eventually(
        lambda: brain.query(f"list(Command.objects.filter(id='{command}', state='succeeded').values_list('state'))"),
        timeout=30,
        interval=0.5,
    )
    assert state == [["succeeded"]]
