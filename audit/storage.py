"""Reads the log for verification: plain tuples by raw SQL, in steps, without a transaction held open."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

from audit.models import Carry, Chain, Checkpoint
from audit.statements import Signed
from audit.walk import Row

STEP = 2000

_PLAIN = {
    "sqlite": "seq, CAST(key_id AS BLOB), CAST(mac AS BLOB), CAST(body AS BLOB)",
    "postgresql": "seq, convert_to(key_id, 'UTF8'), mac, convert_to(body, 'UTF8')",
}
_DEEP = {
    "sqlite": "substr(CASE WHEN instr(at, '.') THEN at ELSE at || '.000' END, 1, 23)",
    "postgresql": "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What the row of a chain says, and the greatest seq there is, both at one moment. ``size`` None: no such row."""

    size: int | None
    head: bytes
    last: object


def chain_ids() -> list[UUID]:
    """Return the ids of all chains that anything in the database belongs to."""
    ids = set(Chain.objects.values_list("id", flat=True))
    ids |= set(Checkpoint.objects.values_list("chain_id", flat=True).distinct())
    ids |= set(Carry.objects.values_list("chain_id", flat=True).distinct())
    return sorted(ids | set(_of_entries()))


def _of_entries() -> Iterator[UUID]:
    """Yield the chains of entries, from one to the next by the index."""
    arguments: list[Any] = []
    condition = ""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT chain_id FROM z4j_audit_entry {condition} ORDER BY chain_id LIMIT 1",  # noqa: S608
                arguments,
            )
            row = cursor.fetchone()
        if row is None:
            return
        yield row[0] if isinstance(row[0], UUID) else UUID(row[0])
        condition, arguments = "WHERE chain_id > %s", [row[0]]


def head(chain: UUID) -> Head:
    """Return the head of a chain."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.size, c.head, e.last FROM (SELECT MAX(seq) AS last FROM z4j_audit_entry WHERE chain_id = %s) e "
            "LEFT JOIN z4j_audit_chain c ON c.id = %s",
            [_id(chain)] * 2,
        )
        size, mac, last = cursor.fetchone()
    return Head(size, bytes(mac or b""), last)


def rows(chain: UUID, *, after: int | None = None, up_to: int, deep: bool = False) -> Iterator[Row]:
    """Yield a chain's entries in order, see :data:`audit.walk.Row`; ``after`` None begins with the very first."""
    columns = _PLAIN[connection.vendor]
    if deep:
        columns += f", {_DEEP[connection.vendor]}, actor, action, target, outcome"
    select = f"SELECT {columns} FROM z4j_audit_entry WHERE chain_id = %s AND seq > %s AND seq <= %s"  # noqa: S608
    select += f" ORDER BY seq LIMIT {STEP}"
    position: Any = -(2**63) if after is None else after
    while True:
        step = _fetch(select, [_id(chain), position, up_to])
        yield from step
        if len(step) < STEP:
            return
        position = step[-1][0]


def _fetch(select: str, arguments: list[Any]) -> list[Row]:
    if connection.vendor != "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(select, arguments)
            return list(cursor.fetchall())
    connection.ensure_connection()
    # Psycopg's own cursor: Django's asks for text, in which bytes are twice as long.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        return list(cursor.execute(select, arguments, binary=True).fetchall())


def carry(chain: UUID) -> Carry | None:
    """Return where a chain was last pruned to."""
    return Carry.objects.filter(chain_id=chain).order_by("-pruned_to").first()


def checkpoints(chain: UUID) -> Iterator[tuple[int, Signed]]:
    """Yield number and statement of a chain's checkpoints, in order."""
    found = Checkpoint.objects.filter(chain_id=chain).order_by("number")
    for number, text, signature in found.values_list("number", "text", "signature").iterator(chunk_size=STEP):
        yield number, Signed(text, bytes(signature))


def _id(chain: UUID) -> UUID | str:
    return chain if connection.vendor == "postgresql" else chain.hex
