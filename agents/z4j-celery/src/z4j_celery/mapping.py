"""From what Celery hands to its hooks to event data. Pure: no hook, no connection, no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from z4j_core import limits
from z4j_core.events import EventKind
from z4j_core.text import clean_text, shorten
from z4j_core.values import arguments

#: Dispatcher events that are told as they are; the others come from signals that carry more.
KINDS: dict[str, EventKind] = {
    "task-started": EventKind.STARTED,
    "task-succeeded": EventKind.SUCCEEDED,
    "task-failed": EventKind.FAILED,
    "task-retried": EventKind.RETRIED,
    "task-rejected": EventKind.REJECTED,
}

_REPR = re.compile(r"([A-Za-z_][\w.]{0,200})\(")
_MESSAGE_CAP = 4 * limits.KIB


def sent(name: str, headers: Mapping[str, Any], body: Any, *, queue: str | None, priority: Any) -> dict[str, Any]:
    """Return the data of a published task (``headers`` and ``body`` as in ``after_task_publish``)."""
    data = _identity(name, headers, queue, priority)
    if isinstance(body, tuple | list) and len(body) >= 2:
        data |= arguments(body[0], body[1])
    else:
        data |= {"replayable": False, "replay_reason": "arguments not seen"}
    retry_of = headers.get("z4j_retry_of")
    if isinstance(retry_of, str):
        data["retry_of"] = retry_of[: limits.MAX_TASK_ID]
    return data


def received(request: Any, queue: str | None) -> dict[str, Any]:
    """Return the data of a task that arrived in a worker (``request`` as in ``task_received``)."""
    headers = request.request_dict
    data = _identity(str(request.type), headers, queue, (request.delivery_info or {}).get("priority"))
    return data | arguments(request.args, request.kwargs)


def _identity(name: str, headers: Mapping[str, Any], queue: str | None, priority: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"task_name": name[: limits.MAX_NAME], "attempt": attempt_of(headers)}
    found = {
        "queue": queue,
        "priority": priority if type(priority) is int else None,
        "eta": moment(headers.get("eta")),
        "root_task_id": _identifier(headers.get("root_id")),
        "group_id": _identifier(headers.get("group")),
    }
    # A retry is published inside the task itself, so its parent would be itself.
    parent = _identifier(headers.get("parent_id"))
    if parent != _identifier(headers.get("id")):
        found["parent_task_id"] = parent
    return data | {key: value for key, value in found.items() if value is not None}


def attempt_of(headers: Mapping[str, Any]) -> int:
    """Return the number of retries before this run."""
    retries = headers.get("retries")
    return retries if type(retries) is int and retries >= 0 else 0


def moment(value: Any) -> str | None:
    """Return a time of Celery's as ISO 8601 with its zone; a naive one is UTC, as on Celery's wire."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()


def outcome(kind: EventKind, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a dispatcher event tells about the end of a run."""
    if kind is EventKind.SUCCEEDED:
        data: dict[str, Any] = {}
        if fields.get("result") is not None:
            data["result"] = bounded(fields["result"], limits.MAX_RESULT)
        if isinstance(fields.get("runtime"), int | float):
            data["runtime_ms"] = round(fields["runtime"] * 1000, 3)
        return data
    if kind is EventKind.FAILED:
        return failure(fields.get("exception"), fields.get("traceback"))
    if kind is EventKind.RETRIED:
        return {"reason": bounded(fields.get("exception"), _MESSAGE_CAP)} | _traceback(fields.get("traceback"))
    if kind is EventKind.REJECTED:
        return {"reason": "requeued" if fields.get("requeue") else "rejected without requeue"}
    return {}


def failure(representation: Any, traceback: Any) -> dict[str, Any]:
    """Return exception, message and traceback out of Celery's texts: the repr and the formatted traceback."""
    shown = representation if type(representation) is str else ""
    match = _REPR.match(shown)
    name = match.group(1) if match else (shown[: limits.MAX_NAME] or "Exception")
    message = shown[len(name) + 1 : -1].strip("'\"") if match and shown.endswith(")") else ""
    text = traceback if type(traceback) is str else ""
    last = _last_line(text, name.rpartition(".")[2])
    if last is not None:
        name, message = last
    return {"exception": name, "exception_message": bounded(message, _MESSAGE_CAP)} | _traceback(traceback)


def _last_line(traceback: str, name: str) -> tuple[str, str] | None:
    """Find the line ``package.Name: message`` that ends a traceback; the message may have several lines."""
    tail = traceback[-2 * _MESSAGE_CAP :].rstrip("\n ")
    matches = list(re.finditer(rf"^((?:[\w.]{{1,200}}\.)?{re.escape(name)})(?:: |$)", tail, re.MULTILINE))
    found = matches[-1] if matches else None
    return None if found is None else (found.group(1), tail[found.end() :].strip("\n"))


def _traceback(value: Any) -> dict[str, str]:
    return {} if value is None else {"traceback": bounded(value, limits.MAX_TRACEBACK)}


def bounded(value: Any, cap: int) -> str:
    """Return at most ``cap`` characters of a text; what is not a text is named by its type only."""
    kind = type(value)
    text = str.__str__(value) if issubclass(kind, str) else f"<{kind.__module__}.{kind.__qualname__}>"
    return clean_text(shorten(text, cap))


def _identifier(value: Any) -> str | None:
    return value[: limits.MAX_TASK_ID] if type(value) is str and value else None
