"""The chain: how an entry is bound to all entries before it. Pure; usable without a database.

``mac = HMAC-SHA256(key, "z4j-audit-v1" | chain id (16 bytes) | seq (8 bytes, big-endian) | previous mac | body)``.
All parts before the body have a fixed size, so no two entries can share an input.

Only who has the key can compute that. So checkpoints and exports also name a digest that anyone can follow:
``digest = SHA-256("z4j-audit-d1" | previous digest | seq | mac | length of key id (1 byte) | key id | body)``, which
begins with the SHA-256 of the chain's id.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

VERSION = b"z4j-audit-v1"
DIGEST_VERSION = b"z4j-audit-d1"
#: What stands in the place of the previous mac before the first entry.
GENESIS = bytes(32)


def canonical(fields: dict[str, Any]) -> str:
    """Return the body of an entry: JSON with sorted keys and no blanks, kept as this exact text."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link(key: bytes, chain_id: UUID, seq: int, previous: bytes, body: str) -> bytes:
    """Return the mac of an entry."""
    message = b"".join((VERSION, chain_id.bytes, seq.to_bytes(8, "big"), previous, body.encode()))
    return hmac.digest(key, message, "sha256")


def first_digest(chain_id: UUID) -> bytes:
    """Return the digest of a chain without entries."""
    return hashlib.sha256(DIGEST_VERSION + chain_id.bytes).digest()


def next_digest(previous: bytes, seq: int, mac: bytes, key_id: bytes, body: bytes) -> bytes:
    """Return the digest after an entry."""
    parts = (DIGEST_VERSION, previous, seq.to_bytes(8, "big"), mac, bytes((len(key_id),)), key_id, body)
    return hashlib.sha256(b"".join(parts)).digest()
