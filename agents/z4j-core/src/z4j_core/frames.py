"""The frames of protocol 2: a frozen dataclass for each type, and the registry that encodes and decodes them.

Decoding is lenient where the wire says so (unknown fields are ignored) and strict in what it keeps: every value
has its type and its cap, a violation raises :class:`~z4j_core.errors.FrameError` naming the field.
Source: wire protocol, section 2.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from z4j_core import limits
from z4j_core.errors import FrameError, FrameTooLarge, UnknownFrameType, VersionMismatch
from z4j_core.versions import FRAME_VERSION, PROTOCOL_VERSION

Parser = Callable[[Any, str], Any]
F = TypeVar("F", bound="type[Frame]")

_REGISTRY: dict[str, type[Frame]] = {}
#: Names of the payload's fields, by frame type.
_FIELDS: dict[str, tuple[str, ...]] = {}


def _text(cap: int) -> Parser:
    def parse(value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise FrameError(f"{where} must be a string")
        if len(value) > cap:
            raise FrameError(f"{where} is longer than {cap} characters")
        return value

    return parse


def _integer(low: int = 0, high: int = limits.MAX_INT) -> Parser:
    def parse(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise FrameError(f"{where} must be an integer")
        if not low <= value <= high:
            raise FrameError(f"{where} must lie between {low} and {high}")
        return value

    return parse


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FrameError(f"{where} must be a number")
    return value


def _boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise FrameError(f"{where} must be true or false")
    return value


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FrameError(f"{where} must be an object")
    return value


def _array(item: Parser, cap: int = limits.MAX_LIST) -> Parser:
    def parse(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise FrameError(f"{where} must be an array")
        if len(value) > cap:
            raise FrameError(f"{where} has more than {cap} items")
        return tuple(item(entry, f"{where}[{index}]") for index, entry in enumerate(value))

    return parse


_NAME = _text(limits.MAX_NAME)
_ID = _text(limits.MAX_ID)
_TIME = _text(64)
_NAMES = _array(_NAME)


def _field(parser: Parser, *, default: Any = dataclasses.MISSING, factory: Any = dataclasses.MISSING) -> Any:
    metadata = {"parse": parser}
    if factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def frame_type(name: str, *, signed: bool = True) -> Callable[[F], F]:
    """Register a frame class under its wire name."""

    def register(cls: F) -> F:
        cls.type = name
        cls.signed = signed
        _REGISTRY[name] = cls
        _FIELDS[name] = tuple(field.name for field in dataclasses.fields(cls) if "parse" in field.metadata)
        return cls

    return register


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all frames have: an id of 1 to 64 characters and the sender's time (ISO 8601, optional in ``hello``)."""

    type: ClassVar[str] = ""
    signed: ClassVar[bool] = True

    id: str
    ts: str | None = None

    def payload(self) -> dict[str, Any]:
        """Return the payload of the wire; a field that is ``None`` is left out."""
        return {name: value for name in _FIELDS[self.type] if (value := getattr(self, name)) is not None}


@frame_type("hello", signed=False)
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Frame):
    """Agent to brain, first frame: who it is, what it can do and (``policy``, ours only) what its owner allows."""

    protocol_version: str = _field(_text(16), default=PROTOCOL_VERSION)
    agent_version: str = _field(_text(64), default="")
    framework: str = _field(_text(64), default="bare")
    engines: tuple[str, ...] = _field(_NAMES, default=())
    schedulers: tuple[str, ...] = _field(_NAMES, default=())
    capabilities: dict[str, Any] = _field(_mapping, factory=dict)
    host: dict[str, Any] | None = _field(_mapping, default=None)
    worker_id: str | None = _field(_NAME, default=None)
    worker_role: str | None = _field(_text(32), default=None)
    worker_pid: int | None = _field(_integer(), default=None)
    worker_started_at: str | None = _field(_TIME, default=None)
    runtime_features: tuple[str, ...] = _field(_NAMES, default=())
    policy: dict[str, Any] | None = _field(_mapping, default=None)


@frame_type("hello_ack", signed=False)
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HelloAck(Frame):
    """Brain to agent: the identity both sides sign with from here on."""

    protocol_version: str = _field(_text(16), default=PROTOCOL_VERSION)
    brain_version: str = _field(_text(64), default="")
    agent_id: str = _field(_ID)
    project_id: str = _field(_ID)
    session_id: str = _field(_ID)
    heartbeat_interval_seconds: int = _field(_integer(1, 3600), default=30)
    max_frame_size_bytes: int = _field(_integer(limits.KIB, 64 * limits.MIB), default=limits.MAX_FRAME_BYTES)


@frame_type("event_batch")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch(Frame):
    """Agent to brain: events, each {id, kind, engine, task_id, occurred_at, data}."""

    events: tuple[dict[str, Any], ...] = _field(_array(_mapping, limits.MAX_BATCH_EVENTS))


@frame_type("event_batch_ack")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EventBatchAck(Frame):
    """Brain to agent, after the commit: these events may be forgotten.

    ``acked_through`` and ``credit`` (bytes the agent may have in flight) are only sent to agents with the feature
    ``z4j_batch_v1``; ``acked_through`` is the sequence number of the newest contiguous batch.
    """

    acked_id: str = _field(_ID)
    received: int = _field(_integer(), default=0)
    accepted: int = _field(_integer(), default=0)
    rejected: int = _field(_integer(), default=0)
    acked_through: int | None = _field(_integer(), default=None)
    credit: int | None = _field(_integer(), default=None)


@frame_type("heartbeat")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Frame):
    """Agent to brain: alive, how full the buffer is, what was lost, how the engines are."""

    buffer_size: int = _field(_integer(), default=0)
    last_flush_at: str | None = _field(_TIME, default=None)
    dropped_events: int = _field(_integer(), default=0)
    telemetry_loss: dict[str, Any] | None = _field(_mapping, default=None)
    adapter_health: dict[str, Any] = _field(_mapping, factory=dict)


@frame_type("agent_status")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus(Frame):
    """Agent to brain, with each heartbeat: the state of its connection and of its buffer."""

    telemetry_loss: dict[str, Any] | None = _field(_mapping, default=None)
    auth_failure_streak: int = _field(_integer(), default=0)
    protocol_failure_streak: int = _field(_integer(), default=0)
    connection_failure_streak: int = _field(_integer(), default=0)
    last_successful_connect_at: str | None = _field(_TIME, default=None)
    current_session_age_seconds: float | None = _field(_number, default=None)
    buffer_depth: int = _field(_integer(), default=0)
    buffer_oldest_age_seconds: float | None = _field(_number, default=None)
    agent_version: str = _field(_text(64), default="")
    protocol_version: str = _field(_text(16), default=PROTOCOL_VERSION)
    engines: tuple[str, ...] = _field(_NAMES, default=())
    schedulers: tuple[str, ...] = _field(_NAMES, default=())


@frame_type("command")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandFrame(Frame):
    """Brain to agent: do this. The frame's id is the command's id."""

    action: str = _field(_text(64))
    target: dict[str, Any] = _field(_mapping, factory=dict)
    parameters: dict[str, Any] = _field(_mapping, factory=dict)
    timeout_seconds: int = _field(_integer(1, 3600), default=60)
    issued_by: str | None = _field(_NAME, default=None)
    delivery_claim_token: str | None = _field(_NAME, default=None)


@frame_type("command_ack")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandAck(Frame):
    """Agent to brain, same id as the command: it has arrived."""

    delivery_claim_token: str | None = _field(_NAME, default=None)


@frame_type("command_result")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandResultFrame(Frame):
    """Agent to brain, same id as the command: what came of it."""

    status: str = _field(_text(16))
    result: dict[str, Any] | None = _field(_mapping, default=None)
    error: str | None = _field(_text(limits.MAX_ERROR), default=None)
    delivery_claim_token: str | None = _field(_NAME, default=None)


@frame_type("registry_delta")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RegistryDelta(Frame):
    """Agent to brain: task names that came, went or changed in an engine."""

    engine: str = _field(_NAME)
    added: tuple[Any, ...] = _field(_array(lambda value, where: value, limits.MAX_BATCH_EVENTS), default=())
    removed: tuple[Any, ...] = _field(_array(lambda value, where: value, limits.MAX_BATCH_EVENTS), default=())
    updated: tuple[Any, ...] = _field(_array(lambda value, where: value, limits.MAX_BATCH_EVENTS), default=())


@frame_type("error")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFrame(Frame):
    """Either way: what went wrong in words, and whether the sender will close now."""

    code: str = _field(_text(64))
    message: str = _field(_text(limits.MAX_ERROR))
    fatal: bool = _field(_boolean, default=False)


def frame_types() -> dict[str, type[Frame]]:
    """Return all frame classes by their wire name."""
    return dict(_REGISTRY)


def encode(frame: Frame) -> dict[str, Any]:
    """Return the frame as the JSON object of the wire, without the signature fields."""
    return {"v": FRAME_VERSION, "type": frame.type, "id": frame.id, "ts": frame.ts, "payload": frame.payload()}


def decode(document: dict[str, Any]) -> Frame:
    """Turn a parsed JSON object into its frame.

    Raises :class:`VersionMismatch`, :class:`UnknownFrameType` or :class:`FrameError`.
    """
    kind = check_envelope(document)
    identifier, ts, payload = document.get("id"), document.get("ts"), document.get("payload")
    identifier = check_id(identifier, "id", limits.MAX_ID)
    if ts is not None:
        ts = _TIME(ts, "ts")
    return decode_payload(kind, identifier, ts, _mapping({} if payload is None else payload, "payload"))


def check_id(value: Any, where: str, cap: int) -> str:
    """Return an id or nonce of 1 to ``cap`` printable ASCII characters; raise :class:`FrameError` for anything else."""
    if not isinstance(value, str) or not 1 <= len(value) <= cap or not (value.isascii() and value.isprintable()):
        raise FrameError(f"{where} must be a string of 1 to {cap} printable ASCII characters")
    return value


def check_envelope(document: dict[str, Any]) -> str:
    """Return the frame type after checking version and type."""
    if document.get("v") != FRAME_VERSION:
        raise VersionMismatch(f"frame version is {document.get('v')!r}, this side speaks {FRAME_VERSION}")
    kind = document.get("type")
    if not isinstance(kind, str) or kind not in _REGISTRY:
        raise UnknownFrameType(f"frame type {str(kind)[:64]!r} is not known")
    return kind


def decode_payload(kind: str, identifier: str, ts: str | None, payload: dict[str, Any]) -> Frame:
    """Build the frame of type ``kind`` from its payload; unknown fields are ignored."""
    cls = _REGISTRY[kind]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        parse = cast("Parser | None", field.metadata.get("parse"))
        if parse is None:
            continue
        value = payload.get(field.name)
        if value is not None:
            values[field.name] = parse(value, f"{kind}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise FrameError(f"{kind}.{field.name} is missing")
    return cls(id=identifier, ts=ts, **values)


def parse_json(raw: bytes | str, *, max_bytes: int = limits.MAX_FRAME_BYTES) -> dict[str, Any]:
    """Parse one message into a JSON object, within the caps of size and nesting.

    Raises :class:`FrameTooLarge` or :class:`FrameError`; never anything else, whatever the bytes are.
    """
    size = len(raw) if isinstance(raw, bytes) else len(raw.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        raise FrameTooLarge(f"the frame has {size} bytes, the limit is {max_bytes}")
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        check_depth(text)
        document = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise FrameError("the frame is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the frame is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(document, dict):
        raise FrameError("the frame is not a JSON object")
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


#: A whole string, which may hold brackets, or one bracket. A string that does not end reaches to the end and is never
#: tried again from its middle, which would take time in the square of its length.
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def check_depth(text: str) -> None:
    """Raise ``ValueError`` for JSON text nested deeper than the wire allows."""
    # Nesting cannot be deeper than the number of opening brackets, so the common flat frame is only counted.
    if text.count("{") + text.count("[") <= limits.MAX_DEPTH:
        return
    depth = 0
    for match in _NESTING.finditer(text):
        mark = match.group()
        if mark in "{[":
            depth += 1
            if depth > limits.MAX_DEPTH:
                raise ValueError(f"nested deeper than {limits.MAX_DEPTH}")
        elif mark in "}]":
            depth -= 1
