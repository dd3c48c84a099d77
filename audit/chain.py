"""The chain: how an entry is bound to all entries before it. Pure; usable without a database.

``mac = HMAC-SHA256(key, "z4j-audit-v1" | chain id (16 bytes) | seq (8 bytes, big-endian) | previous mac | body)``.
All parts before the body have a fixed size, so no two entries can share an input.
"""

from __future__ import annotations

import hmac
import json
from typing import Any
from uuid import UUID

VERSION = b"z4j-audit-v1"
#: What stands in the place of the previous mac before the first entry.
GENESIS = bytes(32)


def canonical(fields: dict[str, Any]) -> str:
    """Return the body of an entry: JSON with sorted keys and no blanks, kept as this exact text."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link(key: bytes, chain_id: UUID, seq: int, previous: bytes, body: str) -> bytes:
    """Return the mac of an entry."""
    message = b"".join((VERSION, chain_id.bytes, seq.to_bytes(8, "big"), previous, body.encode()))
    return hmac.digest(key, message, "sha256")
