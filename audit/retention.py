"""Removes the old part of a chain: exported first, and a signed carry row says where the chain begins from then on."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from uuid import UUID

from django.db import connection, transaction

from audit import export, keys, statements
from audit.models import Carry, Chain, Entry
from audit.record import record


def prune(chain: UUID, before: datetime, path: Path) -> int:
    """Export a chain's entries that are older than ``before`` to a new file and remove them; return how many.

    The last entry always stays. Raises ``FileExistsError``, and :class:`audit.errors.Tampered` when the chain does not
    verify: then nothing is removed.
    """
    kept = Entry.objects.filter(chain_id=chain, at__gte=before).order_by("seq").values_list("seq", flat=True).first()
    size = Chain.objects.values_list("size", flat=True).get(id=chain)
    first = Entry.objects.filter(chain_id=chain).order_by("seq").values_list("seq", flat=True).first() or 1
    up_to = min(size if kept is None else kept, size) - 1
    if up_to < first:
        return 0
    # Exclusive: an earlier export is the only copy of what it holds.
    with path.open("x", encoding="utf-8") as file:
        try:
            end, digest = export.export_prefix(chain, up_to, file.write)
            _make_sure(file, path, digest)
            _remove(end, digest)
        except BaseException:
            path.unlink()
            raise
    return up_to - first + 1


def _make_sure(file: TextIO, path: Path, digest: str) -> None:
    """Bring the export to the disk and read it back. Raises ``OSError`` when it is not what was written."""
    file.flush()
    os.fsync(file.fileno())
    with path.open("rb") as written:
        if hashlib.file_digest(written, "sha256").hexdigest() != digest:
            raise OSError(f"{path} does not hold what was written to it; nothing is removed")


def _remove(end: statements.Point, digest: str) -> None:
    at = datetime.now(UTC).isoformat()
    signed = statements.sign(
        keys.ring(), "carry", {**statements.fields_of(end), "at": at, "export_sha256": digest}
    )  # fmt: skip
    with transaction.atomic():
        Carry.objects.create(chain_id=end.chain, pruned_to=end.size, text=signed.text, signature=signed.signature)
        with connection.cursor() as cursor:
            # By hand: the model refuses deletion. The trigger lets through what the carry row covers, no more.
            cursor.execute(
                "DELETE FROM z4j_audit_entry WHERE chain_id = %s AND seq <= %s",
                [Chain._meta.pk.get_db_prep_value(end.chain, connection), end.size],
            )
        record(
            chain_id=end.chain, actor="system", action="audit.prune", target=f"entry:{end.size}", outcome="succeeded",
            detail={"pruned_to": end.size, "head": end.head.hex(), "export_sha256": digest},
        )  # fmt: skip
