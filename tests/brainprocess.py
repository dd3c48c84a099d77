"""A real brain in a process of its own: home, database, port; started, restarted and stopped by tests and benches."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent
EMAIL, PASSWORD = "alice@example.com", "correct horse battery"


class BrainProcess:
    """``z4j serve`` as a subprocess. ``database_url`` empty means SQLite in its home; ``root`` is the checkout."""

    def __init__(self, database_url: str = "", root: Path = ROOT, **environment: str) -> None:
        self.root = root
        own = root / ".venv" / "bin" / "python"
        self.python = str(own) if own.exists() else sys.executable
        self.home = Path(tempfile.mkdtemp(prefix="z4jbrain", dir="/tmp"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}/ws/agent"
        self.log = self.home / "brain.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("Z4J_")}
        self.environment = {
            **inherited,
            "Z4J_HOME": str(self.home),
            "Z4J_DATABASE_URL": database_url,
            "Z4J_BOOTSTRAP_ADMIN_EMAIL": EMAIL,
            "Z4J_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
            "Z4J_SELF_AGENT": "false",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> BrainProcess:
        """Start it and wait until it answers."""
        self.launch()
        return self.wait()

    def launch(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, str(self.root / "manage.py"), "serve", "--port", str(self.port)],
                env=self.environment, stdout=log, stderr=log, cwd=self.root,
            )  # fmt: skip

    def wait(self) -> BrainProcess:
        """Wait until it answers. Raises ``RuntimeError`` with its log when it ends or takes too long."""
        assert self.process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the brain ended with {self.process.returncode}:\n{self.text()}")
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                    json.load(answer)
                    return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise RuntimeError(f"the brain did not answer in time:\n{self.text()}")

    def stop(self, number: int = signal.SIGTERM, timeout: float = 40) -> int:
        """Send a signal, wait for the end, return the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def remove(self) -> None:
        """Stop it if it runs and remove its files."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def manage(self, *arguments: str, text: str | None = None) -> str:
        """Run a management command against the same home and return its output."""
        done = subprocess.run(
            [self.python, str(self.root / "manage.py"), *arguments],
            env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=120, input=text, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")
        return done.stdout

    def mint(self, name: str, project: str = "default") -> dict[str, str]:
        """Mint a credential."""
        return json.loads(self.manage("token", project, name, "--json"))

    def query(self, expression: str) -> Any:
        """Evaluate an expression over the models in a fresh process; the result must be JSON."""
        names = "import json; from brain.models import *; from django.db.models import *"
        names += "; from django.db.models.functions import Now"
        code = f"{names}; print('=>' + json.dumps({expression}))"
        output = self.manage("shell", "-v0", "-c", code)
        match = re.search(r"^=>(.*)$", output, re.MULTILINE)
        assert match, output
        return json.loads(match.group(1))

    def text(self) -> str:
        """Return the log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextmanager
def running_brain(database_url: str = "", root: Path = ROOT, **environment: str) -> Iterator[BrainProcess]:
    """Start a brain, and remove it afterwards."""
    brain = BrainProcess(database_url, root, **environment)
    try:
        yield brain.start()
    finally:
        brain.remove()


def eventually(check, *, timeout: float = 20.0, interval: float = 0.05):  # type: ignore[no-untyped-def]
    """Call ``check`` until it returns something true, and return that; fail with its last value after ``timeout`` s."""
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s; last value: {value!r}")
        time.sleep(interval)
