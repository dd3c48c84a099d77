"""Event ids: UUIDv7 whose time is the event's own and whose random part is a hash of the agent's event id.

The same event sent again therefore has the same id and falls in the same partition, which is all that
de-duplication needs. Pure functions.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_CLEAR = ~((0xF << 76) | (0x3 << 62))
_MAX_MILLISECONDS = (1 << 48) - 1


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds from 1970 to ``moment``, within what a UUIDv7 can hold."""
    return max(0, min((moment - _EPOCH) // _MILLISECOND, _MAX_MILLISECONDS))


def event_id(project_id: UUID, agent_event_id: str, occurred_at: datetime) -> str:
    """Return the id under which an event is stored, as the 32 hexadecimal digits of a UUID.

    ``agent_event_id`` is the id the agent gave it, unique within the project; ``occurred_at`` its time, clamped.
    """
    digest = hashlib.blake2b(agent_event_id.encode("utf-8", "replace"), key=project_id.bytes, digest_size=10).digest()
    value = (milliseconds(occurred_at) << 80) | int.from_bytes(digest, "big")
    return f"{(value & _CLEAR) | _VERSION_AND_VARIANT:032x}"


def floor(moment: datetime) -> UUID:
    """Return the smallest id an event of ``moment`` or later can have."""
    return UUID(int=milliseconds(moment) << 80)


def time_of(identifier: UUID) -> datetime:
    """Return the time inside an event id, to the millisecond."""
    return _EPOCH + (identifier.int >> 80) * _MILLISECOND
