"""The single writer of the audit log: one entry, inside the caller's transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from audit import keys
from audit.chain import GENESIS, canonical, link
from audit.errors import UnknownKey
from audit.models import Chain, Entry
from audit.walk import COLUMN_LENGTHS

#: The chain of what belongs to no project: logins, set-up, site administration.
INSTALLATION = UUID(int=0)


def record(
    *,
    chain_id: UUID,
    actor: str,
    action: str,
    target: str,
    outcome: str = "allowed",
    detail: dict[str, Any] | None = None,
) -> Entry:
    """Append an entry to a chain; it is there if and only if the caller's transaction commits.

    ``actor`` is who (an e-mail address, or ``agent:…`` or ``system``), ``action`` and ``target`` what and to what,
    ``outcome`` allowed, denied, succeeded, failed or unknown; ``detail`` are JSON values. Locks the chain's head, so
    call it last. Raises :class:`UnknownKey` when the chain was written with a key that is not known any more: what
    cannot be recorded must not happen.
    """
    with transaction.atomic():
        ring = keys.ring()
        Chain.objects.get_or_create(id=chain_id, defaults={"head": GENESIS, "key_id": ring.current})
        chain = Chain.objects.select_for_update().get(id=chain_id)
        if chain.key_id != ring.current:
            _rotate(chain, ring)
        fields = {"actor": actor, "action": action, "target": target, "outcome": outcome, "detail": detail or {}}
        return _append(chain, ring.current, fields)


def _rotate(chain: Chain, ring: keys.KeyRing) -> None:
    """Announce the new key under the one before it."""
    fields = {
        "actor": "system", "action": "key.rotate", "target": f"key:{ring.current}", "outcome": "succeeded",
        "detail": {"key_id": ring.current},
    }  # fmt: skip
    if chain.size:
        _append(chain, chain.key_id, fields)
    chain.key_id = ring.current
    chain.save(update_fields=["key_id"])


def _append(chain: Chain, key_id: str, fields: dict[str, Any]) -> Entry:
    key = keys.ring().macs.get(key_id)
    if key is None:
        raise UnknownKey(key_id)
    at, seq = datetime.now(UTC), chain.size + 1
    body = canonical({"v": 1, "at": at.isoformat(timespec="microseconds"), **fields})
    mac = link(key, chain.id, seq, bytes(chain.head), body)
    columns = {name: fields[name][:cut] for name, cut in COLUMN_LENGTHS.items()}
    entry: Entry = Entry.objects.create(chain=chain, seq=seq, body=body, key_id=key_id, mac=mac, at=at, **columns)
    chain.size, chain.head = seq, mac
    chain.save(update_fields=["size", "head"])
    return entry
