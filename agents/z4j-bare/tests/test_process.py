"""What needs processes of its own: forks, kills, exits. Each child has a hard time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testbrain import TOKEN, Brain, until

PREAMBLE = """
import os, sys, time, threading, signal
from datetime import UTC, datetime
from z4j_core.events import TaskEvent
from z4j_bare import install_agent

def record(runtime, name, count=1):
    for n in range(count):
        runtime.record_event(TaskEvent(kind="task.sent", engine="x", task_id=f"{name}-{n}",
                                       occurred_at=datetime.now(UTC), data={}))

def wait(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
"""

Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start(brain: Brain, tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []
    environ = {
        **os.environ,
        "Z4J_BRAIN_URL": brain.url,
        "Z4J_TOKEN": TOKEN,
        "Z4J_BUFFER_PATH": str(tmp_path / "buffers"),
        "Z4J_RECONNECT_BACKOFF_MAX": "0.3",
    }

    def run(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)],
            env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str], seconds: float = 20) -> str:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    print(err)  # shown when what was printed is not what a test expects
    return out


def test_importing_starts_nothing(start: Start) -> None:
    out = finished(
        start(
            """
            assert threading.active_count() == 1
            assert "asyncio" not in sys.modules and "websockets" not in sys.modules
            before = {s: signal.getsignal(s) for s in signal.valid_signals()}
            runtime = install_agent(autostart=False)
            assert threading.active_count() == 1 and repr(runtime).endswith("new>")
            runtime.start(); record(runtime, "a"); runtime.stop()
            assert before == {s: signal.getsignal(s) for s in signal.valid_signals()}
            import logging
            assert logging.getLogger().handlers == []
            print("fine")
            """
        )
    )
    assert out == "fine\n"


def test_a_killed_process_s_events_are_delivered_by_the_next(start: Start, brain: Brain, tmp_path: Path) -> None:
    brain.reject_with = 4012
    victim = start(
        """
        runtime = install_agent()
        record(runtime, "victim", 400)
        wait(lambda: runtime.counters().get("buffered") == 400)
        print("buffered", flush=True)
        time.sleep(60)
        """
    )
    assert victim.stdout is not None and victim.stdout.readline() == "buffered\n"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(10)
    brain.reject_with = None
    heir = start(
        "runtime = install_agent(); record(runtime, 'heir'); wait(lambda: runtime.counters().get('acked') == 401)"
    )
    finished(heir)
    assert len(brain.events) == 401
    assert len({event["data"]["_z4j"]["epoch"] for event in brain.events}) == 2
    assert list((tmp_path / "buffers").iterdir()) == []


def test_exit_delivers_what_is_there(start: Start, brain: Brain) -> None:
    finished(start("runtime = install_agent(); record(runtime, 'a', 500)"))
    assert len(brain.events) == 500


def test_exit_with_a_dead_brain_is_quick_and_loses_nothing(start: Start, brain: Brain, tmp_path: Path) -> None:
    brain.reject_with = 4012
    out = finished(
        start(
            """
            began = time.monotonic()
            runtime = install_agent(shutdown_timeout=0.5)
            record(runtime, "a", 50)
            import atexit
            """
        ),
        10,
    )
    assert out == ""
    assert len(list((tmp_path / "buffers").glob("*.db"))) == 1
    brain.reject_with = None
    finished(start("runtime = install_agent(); wait(lambda: runtime.counters().get('acked') == 50)"))
    assert len(brain.events) == 50


def test_forked_children_have_their_own_agent(start: Start, brain: Brain) -> None:
    out = finished(
        start(
            """
            runtime = install_agent()
            record(runtime, "parent", 10)
            assert runtime.wait_connected(10)
            children = []
            for n in range(3):
                pid = os.fork()
                if pid == 0:
                    assert threading.active_count() == 1
                    assert repr(runtime).endswith("waiting>")
                    record(runtime, f"child{n}", 10)
                    runtime.stop(10)
                    os._exit(0 if runtime.counters()["acked"] == 10 else 1)
                children.append(pid)
            print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
            record(runtime, "after", 10)
            """
        )
    )
    assert out == "[0, 0, 0]\n"
    until(lambda: len(brain.events) == 50)
    assert len({session.hello.worker_pid for session in brain.sessions}) == 4
    assert len({event["data"]["_z4j"]["epoch"] for event in brain.events}) == 4


def test_forks_under_load_never_hang(start: Start, brain: Brain) -> None:
    out = finished(
        start(
            """
            runtime = install_agent()
            busy = True
            def load():
                n = 0
                while busy:
                    record(runtime, f"load{n}", 20); n += 1
                    time.sleep(0.005)
            threads = [threading.Thread(target=load) for _ in range(2)]
            [t.start() for t in threads]
            codes = []
            for n in range(100):
                pid = os.fork()
                if pid == 0:
                    runtime._ring.put  # the ring is the child's own and empty
                    os._exit(len(runtime._ring) + (runtime._thread is not None))
                codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            busy = False
            [t.join() for t in threads]
            print(set(codes))
            """
        ),
        30,
    )
    assert out == "{0}\n"


def test_a_fork_without_python_s_hooks_is_noticed_by_the_pid(start: Start, brain: Brain) -> None:
    out = finished(
        start(
            """
            runtime = install_agent()
            assert runtime.wait_connected(10)
            import z4j_bare.runtime as module
            module._runtimes.clear()          # as under a server that forks behind Python's back
            pid = os.fork()
            if pid == 0:
                record(runtime, "child")
                runtime.stop(10)
                os._exit(0 if runtime.counters()["acked"] == 1 else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            """
        )
    )
    assert out == "0\n"


def test_a_child_forked_in_spite_of_the_guard_does_without_an_agent(start: Start, tmp_path: Path) -> None:
    out = finished(
        start(
            """
            import z4j_bare.forkguard as forkguard
            forkguard._WAIT = 0.1
            runtime = install_agent(autostart=False)
            inside, leave = threading.Event(), threading.Event()
            def hold():
                with forkguard.guard:
                    inside.set(); leave.wait(10)
            holder = threading.Thread(target=hold)
            holder.start(); inside.wait(10)
            pid = os.fork()
            if pid == 0:
                runtime.start()
                record(runtime, "child", 10)
                assert (runtime.state, len(runtime._ring), runtime._thread) == ("disabled", 0, None)
                runtime._ring.put(None)  # left from before, as it were
                sys.exit(0)              # with the exit hooks
            leave.set(); holder.join()
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), runtime.state)
            """
        )
    )
    assert out == "0 new\n"
    assert not (tmp_path / "buffers").exists()


WRONG = """
from z4j_core.adapters import EngineAdapter
class Engine(EngineAdapter):
    name = "toy"
    def connect(self, sink): print("hooks are installed")
    def disconnect(self): pass
    def limits(self): raise ValueError("limits")
"""


def test_a_wrong_configuration_does_not_stop_the_host(start: Start, brain: Brain) -> None:
    process = start(
        WRONG
        + """
os.environ.update(Z4J_BUFFER_SIZE="lots", Z4J_BRAIN_URL="http://brain.example", Z4J_TOKEN="")
runtime = install_agent(engines=[Engine()], tokn="x")
runtime.start(); runtime.ensure_running("task"); runtime.record_loss(1, "x")
record(runtime, "a")
assert runtime.drain() and not runtime.wait_connected(1) and runtime.counters() == {}
runtime.stop()
print(repr(runtime.state), "disabled" in repr(runtime), threading.active_count())
try:
    install_agent(engines=[Engine()], strict_mode=True)
except Exception as error:
    print(type(error).__name__)
os.environ["Z4J_STRICT_MODE"] = "1"
install_agent()
"""
    )
    out, err = process.communicate(timeout=20)
    assert out == "<RuntimeState.DISABLED: 'disabled'> True 1\nConfigError\n"
    lines = err.splitlines()
    assert lines[0].startswith("[z4j] the agent does not start: ")
    for part in ("'tokn' is not an option", "buffer_size: ", "not encrypted", "token is missing"):
        assert part in lines[0]
    assert process.returncode == 1 and "ConfigError" in lines[-1]
    assert len([line for line in lines if "[z4j]" in line]) == 1


def test_a_failing_adapter_does_not_stop_the_installation(start: Start, brain: Brain) -> None:
    assert finished(start(WRONG + "print(install_agent(engines=[Engine()]).state)")).startswith("hooks are installed\n")


def test_no_thread_to_be_had_is_survived_and_persisted(start: Start, brain: Brain) -> None:
    finished(
        start(
            """
            def refuse(self): raise RuntimeError("can't start new thread")
            original, threading.Thread.start = threading.Thread.start, refuse
            runtime = install_agent()
            record(runtime, "a", 5)
            """
        )
    )
    finished(start("runtime = install_agent(); wait(lambda: runtime.counters().get('acked') == 5)"))
    assert len(brain.events) == 5


def test_the_command_line_runs_until_it_is_told_to_stop(brain: Brain, tmp_path: Path) -> None:
    environ = {**os.environ, "Z4J_BUFFER_PATH": str(tmp_path / "buffers"), "Z4J_TOKEN": TOKEN}
    command = [sys.executable, "-m", "z4j_bare", "run", "--brain-url", brain.url, "--project-id", "demo"]
    process = subprocess.Popen([*command, "--agent-name", "cli"], env=environ, stderr=subprocess.PIPE, text=True)
    try:
        session = until(brain.live)[0]
        assert session.hello.host["name"] == "cli"
        process.terminate()
        _, err = process.communicate(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    assert "[z4j] agent starting (cli, project demo" in err
    assert TOKEN not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "brain_url is missing"),
        (["--engine", "nonesuch"], "nonesuch: not available"),
        (["--engine", "celery"], "--celery-app module:attribute"),
        (["--engine", "celery", "--celery-app", "no_such_module:app"], "no_such_module"),
        (["--colour", "red"], "unknown or incomplete arguments: --colour red"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], message: str) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("Z4J_")}
    done = subprocess.run(
        [sys.executable, "-m", "z4j_bare", "run", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
