"""Environment to a frozen :class:`Config`, once: the only reader of ``Z4J_*`` variables.

Secrets that nobody set are minted on first use into ``secret.env`` under ``Z4J_HOME``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from z4j_core.errors import ConfigError

T = TypeVar("T")

DEFAULT_PORT = 7700
MIN_SECRET = 32
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})

#: Every variable the brain reads, with what it is for; docs/reference/configuration.md lists the same.
VARIABLES: dict[str, str] = {
    "Z4J_HOME": "Directory of the brain's state; default ~/.z4j",
    "Z4J_DATABASE_URL": "postgresql://user:password@host:port/name, or sqlite:///path; default: SQLite in Z4J_HOME",
    "Z4J_SECRET": "Master secret, at least 32 characters; minted into secret.env when absent",
    "Z4J_SESSION_SECRET": "Secret of sessions and cookies, at least 32 characters; minted when absent",
    "Z4J_AUDIT_SECRETS": "Secrets of the audit log, newest first, each of at least 32 characters; default Z4J_SECRET",
    "Z4J_AUDIT_ANCHOR_FILE": "File that signed checkpoints of the audit log are appended to; best on another machine",
    "Z4J_AUDIT_STDOUT": "true prints signed checkpoints of the audit log to standard output, one JSON line each",
    "Z4J_ALLOWED_HOSTS": "Names the brain answers to, as a JSON list or separated by commas; replaces auto-detection",
    "Z4J_PUBLIC_URL": "Address people and agents use, e.g. https://tasks.example.com",
    "Z4J_HOST": "Address to listen on; default 127.0.0.1",
    "Z4J_PORT": "Port to listen on; default 7700",
    "Z4J_REDIS_URL": "Valkey or Redis as channel layer, needed as soon as several brains run",
    "Z4J_BOOTSTRAP_ADMIN_EMAIL": "E-mail address of the administrator created at first boot",
    "Z4J_BOOTSTRAP_ADMIN_PASSWORD": "Password of that administrator",
    "Z4J_MAX_SOCKETS": "Connections of any kind this brain has open at a time; 0 for no limit; default 10000",
    "Z4J_MAX_SOCKETS_PER_ADDRESS": "Of these, from one address; 0 for no limit; default 6000",
    "Z4J_MAX_SOCKETS_PER_AGENT": "Processes that may use one agent's token at a time; 0 for no limit; default 1000",
    "Z4J_DEBUG": "true shows error pages with details; for development on a loopback address only",
    "Z4J_SELF_AGENT": "false keeps the brain from showing its own process under project z4j",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """What the environment says. Secrets are left out of its repr."""

    home: Path
    database: Mapping[str, object]
    secret: str = dataclasses.field(repr=False)
    session_secret: str = dataclasses.field(repr=False)
    audit_secrets: tuple[str, ...] = dataclasses.field(repr=False)
    audit_anchor_file: Path | None
    audit_stdout: bool
    allowed_hosts: tuple[str, ...]
    public_url: str
    host: str
    port: int
    redis_url: str = dataclasses.field(repr=False)
    bootstrap_email: str
    bootstrap_password: str = dataclasses.field(repr=False)
    max_sockets: int
    max_sockets_per_address: int
    max_sockets_per_agent: int
    debug: bool
    self_agent: bool

    def key(self, label: str, length: int = 32) -> bytes:
        """Return the key of one purpose, derived from the master secret with ``label``."""
        return _derive(self.secret, label, length)

    def audit_keys(self, label: str) -> tuple[bytes, ...]:
        """Return the key of one purpose from every secret of the audit log, newest first, the master secret's last."""
        return tuple(_derive(secret, label, 32) for secret in (*self.audit_secrets, self.secret))

    @property
    def is_secure(self) -> bool:
        """Whether people reach the brain over https, so that cookies may insist on it."""
        return self.public_url.startswith("https://")


def _derive(secret: str, label: str, length: int) -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=length, salt=None, info=b"z4j " + label.encode())
    return kdf.derive(secret.encode())


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read the environment. Raises :class:`ConfigError` naming everything that is wrong, all at once."""
    reader = _Reader(os.environ if environ is None else environ)
    home = Path(reader.text("Z4J_HOME") or "~/.z4j").expanduser()
    minted = _secrets(home, reader)
    config = Config(
        home=home,
        database=reader.parse("Z4J_DATABASE_URL", lambda text: database_settings(text, home), {}),
        secret=minted["Z4J_SECRET"],
        session_secret=minted["Z4J_SESSION_SECRET"],
        audit_secrets=reader.parse("Z4J_AUDIT_SECRETS", _audit_secrets, ()),
        audit_anchor_file=reader.parse("Z4J_AUDIT_ANCHOR_FILE", _file, None),
        audit_stdout=reader.flag("Z4J_AUDIT_STDOUT", default=False),
        allowed_hosts=reader.parse("Z4J_ALLOWED_HOSTS", _hosts, ()),
        public_url=reader.parse("Z4J_PUBLIC_URL", _public_url, ""),
        host=reader.text("Z4J_HOST") or "127.0.0.1",
        port=reader.parse("Z4J_PORT", _port, DEFAULT_PORT),
        redis_url=reader.text("Z4J_REDIS_URL"),
        bootstrap_email=reader.text("Z4J_BOOTSTRAP_ADMIN_EMAIL"),
        bootstrap_password=reader.text("Z4J_BOOTSTRAP_ADMIN_PASSWORD"),
        max_sockets=reader.parse("Z4J_MAX_SOCKETS", _count, 10_000),
        max_sockets_per_address=reader.parse("Z4J_MAX_SOCKETS_PER_ADDRESS", _count, 6_000),
        max_sockets_per_agent=reader.parse("Z4J_MAX_SOCKETS_PER_AGENT", _count, 1_000),
        debug=reader.flag("Z4J_DEBUG", default=False),
        self_agent=reader.flag("Z4J_SELF_AGENT", default=True),
    )
    if bool(config.bootstrap_email) != bool(config.bootstrap_password):
        reader.problems.append("Z4J_BOOTSTRAP_ADMIN_EMAIL and Z4J_BOOTSTRAP_ADMIN_PASSWORD are needed together")
    if reader.problems:
        raise ConfigError("the configuration is not valid:\n  - " + "\n  - ".join(reader.problems))
    return config


class _Reader:
    """Reads variables and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def parse(self, name: str, parser: Callable[[str], T], default: T) -> T:
        text = self.text(name)
        if not text and name != "Z4J_DATABASE_URL":
            return default
        try:
            return parser(text)
        except ValueError as error:
            self.problems.append(f"{name}: {error}")
            return default

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name).lower()
        if not text:
            return default
        if text not in _TRUE | _FALSE:
            self.problems.append(f"{name}: must be true or false")
        return text in _TRUE


def database_settings(url: str, home: Path) -> dict[str, object]:
    """Return Django's settings for a database URL; SQLite in ``home`` for an empty one.

    ``postgresql://user:password@host:port/name?option=value``; a ``host`` given as option that begins with a slash is
    the directory of a UNIX socket. Raises ``ValueError`` for any other scheme.
    """
    if not url:
        return _sqlite(home / "z4j.db")
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(Path(unquote(parts.path)))
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError("must begin with postgresql:// or sqlite://")
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise ValueError("must name a database after the last slash")
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    host = options.pop("host", "") or unquote(parts.hostname or "")
    port = options.pop("port", "") or str(parts.port or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": options.pop("user", "") or unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": port,
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"application_name": "z4j", **options},
    }


def _sqlite(path: Path) -> dict[str, object]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-32000; "
                "PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=4000; PRAGMA journal_size_limit=67108864"
            ),
        },
        # A file, also for tests: the writer has a thread and a connection of its own.
        "TEST": {"NAME": str(path.with_name(f"test-{path.name}"))},
    }


def _hosts(text: str) -> tuple[str, ...]:
    if text.startswith("["):
        try:
            names = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError("is not a JSON list") from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("must be a JSON list of strings")
        return tuple(names)
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _audit_secrets(text: str) -> tuple[str, ...]:
    found = tuple(secret.strip() for secret in text.split(","))
    if any(len(secret) < MIN_SECRET for secret in found):
        raise ValueError(f"each must have at least {MIN_SECRET} characters")
    return found


def _file(text: str) -> Path | None:
    return Path(text).expanduser()


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be like https://tasks.example.com")
    return text.rstrip("/")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError("must be a number from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 1_000_000:
        raise ValueError("must be a number from 0 to 1000000")
    return int(text)


def _secrets(home: Path, reader: _Reader) -> dict[str, str]:
    names = ("Z4J_SECRET", "Z4J_SESSION_SECRET")
    found = {name: reader.text(name) for name in names}
    for name, value in found.items():
        if value and len(value) < MIN_SECRET:
            reader.problems.append(f"{name}: must have at least {MIN_SECRET} characters")
    if all(found.values()):
        return found
    stored = _stored_secrets(home / "secret.env", names)
    return {name: found[name] or stored[name] for name in names}


def _stored_secrets(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the secrets of the file, adding those it lacks. The file is 0600 and never overwritten."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        fresh = "".join(f"{name}={secrets.token_hex(32)}\n" for name in names)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(fresh)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(f"{path} can be read by others (mode {mode:o}): run chmod 600 {path}")
    lines = (line.partition("=") for line in path.read_text().splitlines() if "=" in line and line[0] != "#")
    stored = {name.strip(): value.strip() for name, _, value in lines}
    missing = [name for name in names if len(stored.get(name, "")) < MIN_SECRET]
    if missing:
        raise ConfigError(f"{path} lacks {' and '.join(missing)}: restore it from a backup, or remove the file")
    return stored


def detected_hosts() -> list[str]:
    """Return the names and addresses this machine is reached by."""
    names = ["localhost", "127.0.0.1", "[::1]", socket.gethostname()]
    with contextlib.suppress(OSError):
        names.append(socket.getfqdn())
    with contextlib.suppress(OSError):
        names += socket.gethostbyname_ex(socket.gethostname())[2]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Connecting a datagram socket sends nothing; it only picks the address of the default route.
        probe.connect(("192.0.2.1", 9))
        names.append(probe.getsockname()[0])
    return list(dict.fromkeys(name.lower() for name in names if name))
