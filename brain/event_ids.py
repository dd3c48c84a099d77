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
#: The digit that holds the variant of a UUID, two bits of it, by the digit that was there.
_VARIANT = {digit: "89ab"[value % 4] for value, digit in enumerate("0123456789abcdef")}
_MAX_MILLISECONDS = (1 << 48) - 1


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds from 1970 to ``moment``, within what a UUIDv7 can hold."""
    return max(0, min((moment - _EPOCH) // _MILLISECOND, _MAX_MILLISECONDS))


class EventIds:
    """The ids under which the events of one project are stored, as the 32 hexadecimal digits of a UUID."""

    def __init__(self, project_id: UUID) -> None:
        self._keyed = hashlib.blake2b(key=project_id.bytes, digest_size=10)

    def of(self, identity: str, occurred_at: datetime) -> str:
        """Return the id of an event.

        ``identity`` is what tells it from all others of the project: the id the agent gave it, and what it is about;
        ``occurred_at`` its time, clamped.
        """
        keyed = self._keyed.copy()
        keyed.update(identity.encode("utf-8", "replace"))
        digest = keyed.hexdigest()
        return f"{milliseconds(occurred_at):012x}7{digest[1:4]}{_VARIANT[digest[4]]}{digest[5:]}"


def floor(moment: datetime) -> UUID:
    """Return the smallest id an event of ``moment`` or later can have."""
    return UUID(int=milliseconds(moment) << 80)


def time_of(identifier: UUID) -> datetime:
    """Return the time inside an event id, to the millisecond."""
    return _EPOCH + (identifier.int >> 80) * _MILLISECOND
