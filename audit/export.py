"""Writes chains as lines of JSON that can be verified with nothing but the public key.

Lines: ``{"chain", "after"}`` (and a signed ``carry`` when it does not begin at the first entry), an entry a line, the
checkpoints, and at the end one signed statement with size, head and digest of every chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from uuid import UUID

from audit import checkpoints, keys, statements, storage
from audit.chain import canonical, next_digest
from audit.errors import Tampered
from audit.statements import Point, Signed
from audit.walk import beginning

Write = Callable[[str], object]


def export(chains: Iterable[UUID], write: Write) -> str:
    """Write chains; return the SHA-256 of what was written. Raises :class:`Tampered` when a chain does not verify."""
    out = _Out(write)
    ends = [_chain(chain, out) for chain in chains]
    out.put(statements.sign(keys.ring(), "export", {"chains": [statements.fields_of(end) for end in ends]}).line)
    return out.hash.hexdigest()


def export_prefix(chain: UUID, up_to: int, write: Write) -> tuple[Point, str]:
    """Write a chain up to an entry; return that place and the SHA-256 of what was written."""
    out = _Out(write)
    end = _chain(chain, out, up_to)
    out.put(statements.sign(keys.ring(), "export", {"chains": [statements.fields_of(end)]}).line)
    return end, out.hash.hexdigest()


class _Out:
    def __init__(self, write: Write) -> None:
        self._write, self.hash = write, hashlib.sha256()

    def put(self, line: str) -> None:
        self._write(line + "\n")
        self.hash.update(line.encode() + b"\n")


def _chain(chain: UUID, out: _Out, up_to: int | None = None) -> Point:
    carry, head = storage.carry(chain), storage.head(chain)
    start, header = beginning(chain), {"chain": str(chain), "after": 0}
    if carry is not None:
        signed = Signed(carry.text, bytes(carry.signature))
        start = checkpoints.place(keys.ring(), chain, "carry", signed, carry.pruned_to)
        header |= {"after": start.size, "carry": signed.line}
    # Verified first: what is signed at the end must be what the log said.
    whole = checkpoints.verified(chain, start, head)
    out.put(canonical(header))
    size, mac, digest = start.size, start.head, start.digest
    for seq, key_id, mac_now, body in storage.rows(chain, after=start.size, up_to=up_to or whole.size):
        assert isinstance(seq, int) and isinstance(key_id, bytes)  # it verified
        assert isinstance(mac_now, bytes) and isinstance(body, bytes)
        size, mac, digest = seq, mac_now, next_digest(digest, seq, mac_now, key_id, body)
        line = {"seq": seq, "key_id": key_id.decode(), "mac": mac.hex(), "body": body.decode()}
        out.put(canonical(line))
    if up_to is None and digest != whole.digest:
        raise Tampered(f"chain {chain} changed while it was exported")
    for _, signed in storage.checkpoints(chain):
        out.put(signed.line)
    return Point(chain, size, mac, digest)
