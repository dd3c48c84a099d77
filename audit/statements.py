"""Signed statements: checkpoints, carries and exports. Pure.

A statement is canonical JSON text with its Ed25519 signature. The text names what kind it is and the key that signed
it, so one kind never passes for another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature

from audit.chain import canonical
from audit.errors import BadSignature, UnknownKey, Unreadable
from audit.keys import KeyRing, fingerprint, raw


@dataclasses.dataclass(frozen=True, slots=True)
class Signed:
    """A text and the signature (64 bytes) over exactly this text."""

    text: str
    signature: bytes

    @property
    def line(self) -> str:
        """One line of JSON, for a file or a log."""
        return canonical({"statement": self.text, "signature": self.signature.hex()})

    @property
    def hash(self) -> str:
        """SHA-256 of the text, hexadecimal: what the next statement names as the one before it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """A place in a chain that somebody signed: after ``size`` entries the last mac was ``head``."""

    chain: UUID
    size: int
    head: bytes
    digest: bytes


def sign(ring: KeyRing, kind: str, fields: dict[str, Any]) -> Signed:
    """Sign a statement of a kind with the newest key."""
    key = fingerprint(raw(ring.signer.public_key()))
    text = canonical({**fields, "v": 1, "kind": kind, "key": key})
    return Signed(text, ring.signer.sign(text.encode()))


def read(line: str) -> Signed:
    """Read a line as :attr:`Signed.line` writes it. Raises :class:`Unreadable`."""
    try:
        fields = json.loads(line)
        return Signed(str(fields["statement"]), bytes.fromhex(fields["signature"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable from error


def check(ring: KeyRing, kind: str, signed: Signed) -> dict[str, Any]:
    """Return what a statement says. Raises :class:`BadSignature`, :class:`UnknownKey` or :class:`Unreadable`."""
    try:
        fields = json.loads(signed.text)
        told, key = fields["kind"], str(fields["key"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable from error
    if key not in ring.public:
        raise UnknownKey(key)
    try:
        ring.public[key].verify(signed.signature, signed.text.encode(errors="surrogatepass"))
    except InvalidSignature as error:
        raise BadSignature from error
    if told != kind:
        raise Unreadable(f"this is no {kind}")
    return dict(fields)


def fields_of(point: Point) -> dict[str, Any]:
    """Return a point as fields of a statement."""
    return {
        "chain": str(point.chain), "size": point.size, "head": point.head.hex(), "digest": point.digest.hex(),
    }  # fmt: skip


def point_of(fields: dict[str, Any]) -> Point:
    """Return the point a checked statement names. Raises :class:`Unreadable`."""
    try:
        return Point(
            UUID(fields["chain"]), int(fields["size"]), bytes.fromhex(fields["head"]), bytes.fromhex(fields["digest"])
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable from error
