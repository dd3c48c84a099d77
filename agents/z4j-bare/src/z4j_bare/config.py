"""The agent's configuration: keyword over environment over framework settings over default, frozen and checked once.

Reads the environment and nothing else; secrets never appear in the repr.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from z4j_core import limits
from z4j_core.errors import ConfigError, SignatureError
from z4j_core.policy import LISTS, Policy
from z4j_core.signing import derive_secret, secret_bytes

N = TypeVar("N", int, float)

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Everything an agent needs to know; times in seconds, sizes in bytes.

    Build it with :func:`resolve`. ``url`` is the socket's address, made from what the user called ``brain_url``.
    """

    brain_url: str
    token: str = dataclasses.field(repr=False)
    hmac_secret: str | None = dataclasses.field(default=None, repr=False)
    project_id: str = "default"
    agent_name: str = ""
    agent_id: str = ""
    environment: str = ""
    release: str = ""
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    transport: str = "auto"
    dev_mode: bool = False
    strict_mode: bool = False
    autostart: bool = True
    buffer_path: str | None = None
    buffer_size: int = 50_000
    buffer_bytes: int = 64 * limits.MIB
    max_payload_bytes: int = 64 * limits.KIB
    heartbeat_interval: float | None = None
    reconnect_backoff_max: float = 30.0
    shutdown_timeout: float = 2.0
    ca_file: str | None = None
    redaction_extra_key_patterns: tuple[str, ...] = ()
    redaction_extra_value_patterns: tuple[str, ...] = ()
    policy: str = "operate"
    policy_allow_actions: tuple[str, ...] | None = None
    policy_deny_actions: tuple[str, ...] = ()
    policy_allow_tasks: tuple[str, ...] | None = None
    policy_deny_tasks: tuple[str, ...] = ()
    policy_allow_queues: tuple[str, ...] | None = None
    policy_deny_queues: tuple[str, ...] = ()

    @property
    def rules(self) -> Policy:
        """What the owner of this agent allows."""
        return Policy(mode=self.policy, **{name: getattr(self, f"policy_{name}") for name in LISTS})

    @property
    def url(self) -> str:
        """The WebSocket's URL: ``<base>/ws/agent`` with the scheme ``ws`` or ``wss``."""
        return socket_url(self.brain_url)

    @property
    def secret(self) -> bytes:
        """The HMAC key: the given secret, or the one derived from the token."""
        return secret_bytes(self.hmac_secret) if self.hmac_secret else derive_secret(self.token)

    @property
    def identity(self) -> str:
        """Eight hexadecimal digits that differ between brains and tokens: whose events a buffer file holds."""
        return hashlib.sha256(f"{self.url}\0{self.token}".encode()).hexdigest()[:8]

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings of the connection, ``None`` for a plain one."""
        return ssl.create_default_context(cafile=self.ca_file) if self.url.startswith("wss:") else None


OPTIONS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(AgentConfig))
REQUIRED = ("brain_url", "token")


@dataclasses.dataclass(frozen=True, slots=True)
class Problems:
    """What is wrong with a configuration: names that are no option, options that are missing, sentences on values."""

    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()

    @property
    def unused(self) -> bool:
        """Nothing is wrong but that neither address nor token is given: nobody wants an agent here."""
        return self.missing == REQUIRED and not self.unknown and not self.invalid

    def __str__(self) -> str:
        sentences = [_unknown(name) for name in self.unknown]
        sentences += self.invalid
        sentences += [f"{name} is missing (keyword, Z4J_{name.upper()} or settings)" for name in self.missing]
        return "; ".join(sentences)


def resolve(
    given: Mapping[str, Any], settings: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> AgentConfig:
    """Return the configuration out of keywords, ``Z4J_*`` variables and a framework's settings.

    A value of ``None`` counts as not given. Raises :class:`ConfigError` that names every problem at once.
    """
    config, problems = examine(given, settings, environ)
    if text := str(problems):
        raise ConfigError(text)
    return config


def examine(
    given: Mapping[str, Any], settings: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[AgentConfig, Problems]:
    """Return the configuration as far as it is valid (``strict_mode`` is then, too), and what is wrong with it."""
    environ = os.environ if environ is None else environ
    settings = settings or {}
    values: dict[str, Any] = {}
    missing = []
    invalid = []
    for name in OPTIONS:
        sources = (given.get(name), environ.get(f"Z4J_{name.upper()}"), settings.get(name))
        value = next((source for source in sources if source is not None and source != ""), None)
        if value is None:
            missing += [name] if name in REQUIRED else []
            continue
        try:
            values[name] = _convert(name, value)
        except (TypeError, ValueError, OverflowError) as error:
            invalid.append(f"{name}: {error}")
    config = AgentConfig(**{"brain_url": "", "token": "", **values})
    invalid += _check(config)
    unknown = tuple(str(name) for name in (*given, *settings) if name not in OPTIONS)
    return config, Problems(unknown, tuple(missing), tuple(invalid))


def socket_url(brain_url: str) -> str:
    """Return the socket's URL of a brain given as http(s) or ws(s), with or without ``/ws`` or ``/ws/agent``.

    Raises :class:`ConfigError` when it is not such a URL.
    """
    if "://" not in brain_url:
        raise ConfigError("brain_url has no scheme: write http:// or https:// in front")
    try:
        parts = urlsplit(brain_url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"brain_url is not a URL: {error}") from error
    scheme = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ConfigError("brain_url must look like https://z4j.example.com")
    path = parts.path.rstrip("/")
    for ending in ("/ws/agent", "/ws"):
        if path.endswith(ending):
            path = path.removesuffix(ending)
            break
    return urlunsplit((scheme, parts.netloc, f"{path}/ws/agent", "", ""))


def shown_url(url: str) -> str:
    """Return the URL as logs may show it: without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, OPTIONS, n=1)
    return f"{name!r} is not an option" + (f", did you mean {near[0]!r}?" if near else "")


def _convert(name: str, value: Any) -> Any:
    converter = _CONVERTERS.get(name)
    if converter is not None:
        return converter(value)
    if isinstance(value, bool | int | float | bytes | Mapping | list):
        raise TypeError(f"must be text, not {type(value).__name__}")
    return str(value).strip()


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    folded = str(value).strip().casefold()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise ValueError("must be true or false")


def _positive(value: N) -> N:
    if value <= 0:
        raise ValueError("must be greater than 0")
    return value


def _tags(value: Any) -> dict[str, str]:
    """Accept a mapping, JSON text of one, or ``key=value,key=value``."""
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            value = json.loads(value)
        else:
            value = dict(part.split("=", 1) for part in value.split(",") if part.strip())
    if not isinstance(value, Mapping):
        raise TypeError("must be a mapping of texts")
    return {str(key).strip(): str(item).strip() for key, item in value.items()}


def _texts(value: Any) -> tuple[str, ...]:
    """Accept a sequence of texts, JSON text of one, or a single text."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else [value]
    if not isinstance(value, Sequence):
        raise TypeError("must be a list of texts")
    return tuple(str(item) for item in value)


def _globs(value: Any) -> tuple[str, ...]:
    """Accept what :func:`_texts` does, and texts with commas between them; blanks around each are dropped."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = value.split(",")
    return tuple(text for item in _texts(value) if (text := item.strip()))


def _check(config: AgentConfig) -> list[str]:
    problems = _check_url(config) if config.brain_url else []
    try:
        _ = config.secret
    except SignatureError as error:
        problems.append(f"hmac_secret: {error}")
    if config.transport == "longpoll":
        problems.append("transport 'longpoll' is not supported by this version, use 'auto' or 'websocket'")
    elif config.transport not in ("auto", "websocket"):
        problems.append(f"transport {config.transport!r} is not known, use 'auto' or 'websocket'")
    return problems + config.rules.problems()


def _check_url(config: AgentConfig) -> list[str]:
    try:
        url = urlsplit(config.url)
    except ConfigError as error:
        return [str(error)]
    if url.scheme == "ws" and url.hostname not in _LOOPBACK and not config.dev_mode:
        return ["brain_url is not encrypted: use https://, or dev_mode=True on a network you trust"]
    return []


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "dev_mode": _boolean,
    "strict_mode": _boolean,
    "autostart": _boolean,
    "buffer_size": lambda value: _positive(int(value)),
    "buffer_bytes": lambda value: _positive(int(value)),
    "max_payload_bytes": lambda value: _positive(int(value)),
    "heartbeat_interval": lambda value: _positive(float(value)),
    "reconnect_backoff_max": lambda value: _positive(float(value)),
    "shutdown_timeout": lambda value: max(0.0, float(value)),
    "tags": _tags,
    "redaction_extra_key_patterns": _texts,
    "redaction_extra_value_patterns": _texts,
    "policy": lambda value: str(value).strip().casefold(),
    **{f"policy_{name}": _globs for name in LISTS},
    "buffer_path": lambda value: str(Path(value).expanduser()),
}
