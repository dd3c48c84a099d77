"""Makes checkpoints: verifies what is new in a chain, signs where it stands, and hands that to the sinks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from audit import keys, sinks, statements, storage
from audit.errors import BadSignature, Tampered, UnknownKey, Unreadable
from audit.models import Chain, Checkpoint
from audit.sinks import Sink
from audit.statements import Point, Signed
from audit.walk import Plan, beginning, walk

#: A chain gets a checkpoint when this much is new, or something is and the last is this old, or when it is quiet.
MANY = 1000
SOON = timedelta(seconds=60)
QUIET = timedelta(hours=1)


def make_due(now: datetime | None = None) -> int:
    """Make the checkpoints that are due; return how many. All chains are tried before the first error is raised."""
    now = now or datetime.now(UTC)
    made, errors = 0, []
    for chain in Chain.objects.filter(size__gt=0).order_by("id"):
        last = _last(chain.id)
        if not _due(chain.size, last, now):
            continue
        try:
            make(chain.id, now=now)
            made += 1
        except (Tampered, OSError) as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return made


def make(chain_id: UUID, *, now: datetime | None = None, to: Sequence[Sink] | None = None) -> Signed:
    """Make a checkpoint of a chain as it is now.

    Raises :class:`Tampered` when what is new, or the last checkpoint, does not verify: then nothing is signed; and
    ``OSError`` when a sink does not take it: then it is not stored, so that the next turn tries again.
    """
    now = now or datetime.now(UTC)
    ring, last, head = keys.ring(), _last(chain_id), storage.head(chain_id)
    before = "" if last is None else Signed(last.text, bytes(last.signature)).hash
    point = verified(chain_id, _signed_place(ring, chain_id, last), head)
    number = 1 if last is None else last.number + 1
    signed = statements.sign(
        ring,
        "checkpoint",
        {**statements.fields_of(point), "number": number, "at": now.isoformat(), "before": before},
    )
    for sink in sinks.configured() if to is None else to:
        sink.take(signed)
    Checkpoint.objects.create(
        chain_id=chain_id, number=number, size=point.size, at=now, text=signed.text, signature=signed.signature
    )
    return signed


def verified(chain_id: UUID, start: Point, head: storage.Head) -> Point:
    """Return the place of a head after verifying from ``start`` to it. Raises :class:`Tampered`."""
    size = head.size or 0
    plan = Plan(start, keys.ring().macs, digests=True)
    walked = walk(plan, storage.rows(chain_id, after=start.size, up_to=size))
    if walked.stopped is not None or walked.size != size or walked.head != head.head:
        raise Tampered(f"chain {chain_id} does not verify after entry {walked.size}; run: z4j audit verify")
    return Point(chain_id, walked.size, walked.head, walked.digest)


def place(ring: keys.KeyRing, chain_id: UUID, kind: str, row: Signed, size: int) -> Point:
    """Return the place a stored statement names. Raises :class:`Tampered` when it is not what was signed."""
    try:
        point = statements.point_of(statements.check(ring, kind, row))
    except (BadSignature, Unreadable, UnknownKey) as error:
        raise Tampered(f"chain {chain_id}: {kind} at {size}: {error}") from error
    if (point.chain, point.size) != (chain_id, size):
        raise Tampered(f"chain {chain_id}: {kind} at {size} says another place")
    return point


def _signed_place(ring: keys.KeyRing, chain_id: UUID, last: Checkpoint | None) -> Point:
    places = [beginning(chain_id)]
    if last is not None:
        places.append(place(ring, chain_id, "checkpoint", Signed(last.text, bytes(last.signature)), last.size))
    if carry := storage.carry(chain_id):
        signed = Signed(carry.text, bytes(carry.signature))
        places.append(place(ring, chain_id, "carry", signed, carry.pruned_to))
    return max(places, key=lambda found: found.size)


def _last(chain_id: UUID) -> Checkpoint | None:
    return Checkpoint.objects.filter(chain_id=chain_id).order_by("-number").first()


def _due(size: int, last: Checkpoint | None, now: datetime) -> bool:
    if last is None:
        return True
    new, age = size - last.size, now - last.at
    return new >= MANY or (new != 0 and age >= SOON) or age >= QUIET
