"""The keys of the log: one for macs and one for signatures from every secret, named by their fingerprints."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

#: How entries name the key of the master secret when they were written before keys had fingerprints.
UNNAMED = "k1"


class Secrets(Protocol):
    """What derives keys from the secrets of the log."""

    def audit_keys(self, label: str) -> tuple[bytes, ...]:
        """Return the key of one purpose from every secret, the newest first; the master secret's is the last."""


@dataclasses.dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that are known. ``current`` is what new entries are written with."""

    current: str
    macs: Mapping[str, bytes] = dataclasses.field(repr=False)
    signer: Ed25519PrivateKey = dataclasses.field(repr=False)
    public: Mapping[str, Ed25519PublicKey]


def fingerprint(key: bytes) -> str:
    """Return the name of a key, 16 hexadecimal digits; nothing about the key follows from it."""
    return hashlib.sha256(b"z4j-audit-key" + key).hexdigest()[:16]


def raw(public: Ed25519PublicKey) -> bytes:
    """Return the 32 bytes of a public key."""
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


@functools.lru_cache(maxsize=8)
def ring(secrets: Secrets | None = None) -> KeyRing:
    """Return the keys of these secrets; those of the configuration when none are given."""
    secrets = secrets or settings.Z4J_CONFIG
    keys = secrets.audit_keys("audit")
    signers = [Ed25519PrivateKey.from_private_bytes(seed) for seed in secrets.audit_keys("audit checkpoint")]
    return KeyRing(
        current=fingerprint(keys[0]),
        macs={UNNAMED: keys[-1], **{fingerprint(key): key for key in keys}},
        signer=signers[0],
        public={fingerprint(raw(signer.public_key())): signer.public_key() for signer in signers},
    )
