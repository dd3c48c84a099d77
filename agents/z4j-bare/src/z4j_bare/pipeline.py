"""From the ring to the buffer: redaction, size caps and serialisation of each event, on the agent's thread."""

from __future__ import annotations

import json
from typing import Any

from z4j_core import limits
from z4j_core.events import TaskEvent
from z4j_core.redaction import Redactor
from z4j_core.safety import safe_boundary
from z4j_core.text import clean_json, clean_text

from z4j_bare.buffer import BufferStore
from z4j_bare.config import AgentConfig
from z4j_bare.ring import Ring

#: Events handled without giving the host's threads a turn.
SLICE = 100
#: Removed, in this order, from an event that is too large.
_HEAVY = ("traceback", "result", "args", "kwargs", "exception_message", "reason")


class Pipeline:
    """Empties a ring into a buffer, a slice at a time."""

    def __init__(self, ring: Ring[TaskEvent], buffer: BufferStore, config: AgentConfig) -> None:
        self._ring = ring
        self._buffer = buffer
        self._cap = config.max_payload_bytes
        self._redactor = Redactor(config.redaction_extra_key_patterns, config.redaction_extra_value_patterns)

    def run_slice(self) -> int:
        """Move up to 100 events; return how many the ring gave."""
        events = self._ring.take(SLICE)
        documents = []
        failed = 0
        for event in events:
            with safe_boundary("redaction") as boundary:
                documents.append(self._document(event))
            failed += boundary.error is not None
        if documents:
            self._buffer.append(documents, self._encode)
        if failed:
            self._buffer.record_loss(failed, "redaction_error")
        if refused := self._ring.refused():
            self._buffer.record_loss(refused, "ring_full")
        for count, reason in self._ring.losses():
            self._buffer.record_loss(count, reason)
        return len(events)

    def _document(self, event: TaskEvent) -> dict[str, Any]:
        data: dict[str, Any] = {}
        redacted = False
        for name, value in event.data.items():
            # Names, ids and numbers of the engine are no place for secrets; looking there would only cost time.
            if name not in _HEAVY:
                data[name] = value
                continue
            data[name], hit = self._redactor.value(value)
            redacted = redacted or (hit and name in ("args", "kwargs"))
        if redacted and data.get("replayable"):
            data |= {"replayable": False, "replay_reason": "arguments redacted"}
        document = event.wire()
        document["task_id"] = clean_text(event.task_id)[: limits.MAX_TASK_ID]
        document["data"] = clean_json(data)
        return document

    def _encode(self, document: dict[str, Any]) -> str:
        body = _dumps(document)
        data = document["data"]
        for name in _HEAVY:
            if len(body) <= self._cap:
                break
            if name not in data:
                continue
            data[name] = None if name in ("args", "kwargs") else "[removed: the event was too large]"
            data["truncated"] = True
            if name in ("args", "kwargs"):
                data["replayable"], data["replay_reason"] = False, "arguments truncated"
            body = _dumps(document)
        return body


def _dumps(document: dict[str, Any]) -> str:
    # Canonical, so that a batch can be signed and verified without being parsed.
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=True)
