"""The single writer of the audit log: one entry, inside the caller's transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from audit.chain import GENESIS, canonical, link
from audit.models import Chain, Entry

KEY_ID = "k1"
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
    call it last.
    """
    with transaction.atomic():
        Chain.objects.get_or_create(id=chain_id, defaults={"head": GENESIS})
        chain = Chain.objects.select_for_update().get(id=chain_id)
        at = datetime.now(UTC)
        seq = chain.size + 1
        fields = {
            "v": 1, "at": at.isoformat(timespec="microseconds"), "actor": actor, "action": action,
            "target": target, "outcome": outcome, "detail": detail or {},
        }  # fmt: skip
        body = canonical(fields)
        mac = link(settings.Z4J_CONFIG.key("audit"), chain_id, seq, bytes(chain.head), body)
        entry = Entry.objects.create(
            chain=chain, seq=seq, body=body, key_id=KEY_ID, mac=mac,
            at=at, actor=actor[:254], action=action[:64], target=target[:320], outcome=outcome,
        )  # fmt: skip
        chain.size, chain.head = seq, mac
        chain.save(update_fields=["size", "head"])
    return entry
