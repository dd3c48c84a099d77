"""A real Django project in processes of its own, against the test brain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from testbrain import TOKEN, Brain, until

from tests.servers import free_port

PROJECT = Path(__file__).parent / "project"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def environ(brain: Brain, tmp_path: Path, valkey_url: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("Z4J_", "DJANGO_"))}
    settings = {"brain_url": brain.url, "token": TOKEN, "project_id": "shop", "environment": "test"}
    return {
        **clean,
        "TEST_Z4J": json.dumps(settings),
        "TEST_BROKER": f"{valkey_url}/6",
        "TEST_QUEUE": f"q{uuid4().hex[:8]}",
        "Z4J_BUFFER_PATH": str(tmp_path / "buffers"),
        "PYTHONPATH": str(PROJECT),
    }


@pytest.fixture
def start(environ: dict[str, str]) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **changes: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments], env={**environ, **changes}, cwd=PROJECT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def done(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=20)
    return out


def get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return None


WSGI = """
import sys
from wsgiref.simple_server import make_server
from shop.wsgi import application
import threading
assert "z4j-agent" not in [thread.name for thread in threading.enumerate()]
make_server("127.0.0.1", int(sys.argv[1]), application).serve_forever()
"""

PREFORKED = """
import os, sys
from wsgiref.simple_server import make_server
from shop.wsgi import application
server = make_server("127.0.0.1", int(sys.argv[1]), application)
if os.fork() == 0:
    server.serve_forever()
os.wait()
"""


@pytest.mark.parametrize("code", [WSGI, PREFORKED], ids=["single", "preloaded and forked"])
def test_a_web_process_has_an_agent_from_its_first_request(start: Start, brain: Brain, code: str) -> None:
    port = free_port()
    process = start("-c", code, str(port))
    assert until(lambda: get(f"http://127.0.0.1:{port}/")) == "hello"
    session = until(brain.live)[0]
    assert (session.hello.framework, session.hello.worker_role) == ("django", "web")
    assert session.hello.engines == ("celery",)
    assert session.hello.host["environment"] == "test"
    assert session.hello.host["name"].endswith(f"-{session.hello.worker_pid}")
    task_id = get(f"http://127.0.0.1:{port}/?publish")
    (event,) = until(lambda: brain.of_task(task_id or ""))
    assert (event["kind"], event["data"]["task_name"], event["data"]["args"]) == ("task.sent", "shop.add", [1, 2])
    assert len(brain.sessions) == 1
    if code == PREFORKED:
        assert session.hello.worker_pid != process.pid
        os.kill(session.hello.worker_pid, 15)


def test_runserver_has_one_agent_in_the_process_that_serves(start: Start, brain: Brain) -> None:
    port = free_port()
    process = start("manage.py", "runserver", "--skip-checks", str(port))
    session = until(brain.live, 20)[0]
    assert session.hello.worker_pid != process.pid
    assert until(lambda: get(f"http://127.0.0.1:{port}/")) == "hello"
    assert len(brain.sessions) == 1


def test_runserver_without_the_reloader_serves_itself(start: Start, brain: Brain) -> None:
    process = start("manage.py", "runserver", "--noreload", "--skip-checks", str(free_port()))
    assert until(brain.live, 20)[0].hello.worker_pid == process.pid


def test_a_celery_worker_has_one_agent_in_its_main_process(start: Start, brain: Brain, environ: dict[str, str]) -> None:
    worker = start("-m", "celery", "-A", "shop", "worker", "-c", "2", "-l", "INFO", "--without-mingle")
    session = until(brain.live, 20)[0]
    assert (session.hello.worker_pid, session.hello.worker_role) == (worker.pid, "task")
    publish = "import shop; from shop.celery import add; print(add.delay(2, 3).id)"
    task_id = done(start("-c", publish)).split()[0]
    until(lambda: "task.succeeded" in [event["kind"] for event in brain.of_task(task_id)])
    assert len(brain.sessions) == 1


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["manage.py", "longjob"], {}),
        (["-m", "django", "longjob"], {"DJANGO_SETTINGS_MODULE": "shop.settings"}),
        (["manage.py", "check"], {}),
        (["-c", "from shop.wsgi import application"], {}),
        (["manage.py", "longjob", "--with-z4j"], {"TEST_TESTING": "1"}),
        (["manage.py", "longjob", "--with-z4j"], {"TEST_Z4J": "{}"}),
        (["manage.py", "longjob", "--with-z4j"], {"TEST_Z4J": "null"}),
    ],
)
def test_other_processes_have_none(start: Start, brain: Brain, arguments: list[str], changes: dict[str, str]) -> None:
    process = start(*arguments, **changes)
    out = done(process)
    assert process.returncode == 0, out
    assert "[z4j]" not in out
    assert brain.sessions == []


def test_a_management_command_has_one_when_asked(start: Start, brain: Brain) -> None:
    process = start("manage.py", "longjob", "--wait", "--with-z4j")
    session = until(brain.live, 20)[0]
    assert session.hello.worker_pid == process.pid
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None
    out = done(process)
    assert process.returncode == 0, out
    assert "[z4j] agent starting" in out
    assert "[z4j] connected" in out
    assert TOKEN not in out


def test_autostart_can_be_switched_off_and_the_agent_started_by_hand(
    start: Start, brain: Brain, environ: dict[str, str]
) -> None:
    code = """
import django; django.setup()
import z4j_django
runtime = z4j_django.start_agent(agent_name="by hand", engines=[])
assert runtime.wait_connected(10)
runtime.stop()
"""
    settings = {**json.loads(environ["TEST_Z4J"]), "autostart": False}
    process = start("-c", code, TEST_Z4J=json.dumps(settings), DJANGO_SETTINGS_MODULE="shop.settings")
    out = done(process)
    assert process.returncode == 0, out
    (session,) = brain.sessions
    assert session.hello.host["name"] == "by hand"
    assert session.hello.engines == ()


def test_an_agent_without_a_z4j_setting_can_be_started_by_hand(start: Start, brain: Brain) -> None:
    code = f"""
import django; django.setup()
import z4j_django
runtime = z4j_django.start_agent(brain_url={brain.url!r}, token={TOKEN!r}, project_id="z4j", engines=[])
assert runtime.wait_connected(10)
assert z4j_django.start_agent() is runtime
"""
    process = start("-c", code, TEST_Z4J="null", DJANGO_SETTINGS_MODULE="shop.settings")
    out = done(process)
    assert process.returncode == 0, out


SERVE = "from shop.wsgi import application; print('serves')"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([1], ["z4j.W101", "Z4J must be a dict, not list"]),
        ({"brain_url": "http://localhost:1", "tokn": "x"}, ["z4j.W102", "Did you mean 'token'?", "z4j.W103"]),
        ({"brain_url": "http://example.com", "token": "x"}, ["z4j.W104", "not encrypted"]),
        ({"brain_url": "http://localhost:1", "token": "x", "x": 1, "buffer_size": "lots"}, ["z4j.W102", "buffer_size"]),
        ({"brain_url": "http://localhost:1", "token": None}, ["z4j.W103", "Z4J has no 'token'"]),
    ],
)
def test_a_wrong_setting_is_a_named_warning_and_stops_nothing(start: Start, settings: Any, said: list[str]) -> None:
    process = start("manage.py", "check", TEST_Z4J=json.dumps(settings))
    out = done(process)
    assert process.returncode == 0
    for text in said:
        assert text in out
    served = done(start("-c", SERVE, TEST_Z4J=json.dumps(settings)))
    assert "serves" in served
    assert served.count("[z4j] the agent does not start: ") == (0 if isinstance(settings, list) else 1)


@pytest.mark.parametrize("settings", [{"brain_url": None, "token": None}, {"brain_url": "", "project_id": "x"}])
def test_without_address_and_token_the_agent_stands_aside(start: Start, brain: Brain, settings: Any) -> None:
    checked = start("manage.py", "check", TEST_Z4J=json.dumps(settings))
    out = done(checked)
    assert checked.returncode == 0 and "z4j" not in out
    out = done(start("-c", SERVE, TEST_Z4J=json.dumps(settings)))
    assert "serves" in out
    assert [line for line in out.splitlines() if "[z4j]" in line] == [
        "[z4j] Z4J has neither brain_url nor token: no agent in this process"
    ]


def test_starting_by_hand_or_in_strict_mode_raises(start: Start) -> None:
    code = """
import django; django.setup()
import z4j_django
try:
    z4j_django.start_agent()
except Exception as error:
    print(type(error).__name__)
"""
    settings = {"brain_url": "http://localhost:1", "autostart": False}
    options = {"TEST_Z4J": json.dumps(settings), "DJANGO_SETTINGS_MODULE": "shop.settings"}
    assert done(start("-c", code, **options)).splitlines()[-1] == "ConfigError"
    strict = start("-c", SERVE, TEST_Z4J=json.dumps({**settings, "strict_mode": True}))
    assert "ConfigError" in done(strict)
    assert strict.returncode == 1
