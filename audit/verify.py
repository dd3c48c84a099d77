"""Verifies the log in the database: every chain, its checkpoints, what was anchored outside, and the triggers."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from django.db import connection

from audit import statements, storage, triggers
from audit.errors import BadSignature, UnknownKey, Unreadable
from audit.keys import KeyRing
from audit.statements import Point
from audit.walk import KINDS, Finding, Plan, Unverifiable, Walked, beginning, walk

INTACT, TAMPERED, UNVERIFIABLE = 0, 1, 2


@dataclasses.dataclass(frozen=True, slots=True)
class ChainReport:
    """What verification of one chain found. ``size`` is the last entry that is proven good."""

    chain: UUID
    size: int
    pruned_to: int
    anchors: int
    found: tuple[Finding | Unverifiable, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What verification found. ``notes`` are things a person should know that are no evidence of tampering."""

    chains: tuple[ChainReport, ...]
    triggers: tuple[str, ...]
    notes: tuple[str, ...]
    unverifiable: tuple[str, ...]

    @property
    def status(self) -> int:
        """0 intact, 1 tampered, 2 cannot verify."""
        found = [one for chain in self.chains for one in chain.found]
        if self.triggers or any(isinstance(one, Finding) for one in found):
            return TAMPERED
        return UNVERIFIABLE if found or self.unverifiable else INTACT


@dataclasses.dataclass(slots=True)
class Anchors:
    """Checkpoints that were kept outside, and what is wrong with them."""

    points: dict[UUID, list[Point]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    forged: list[int] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)


def read_anchors(lines: Iterable[str], ring: KeyRing) -> Anchors:
    """Read a file of checkpoints. A line that is none (a crash leaves one) is noted, a forged one is evidence."""
    anchors = Anchors()
    for number, line in enumerate(lines, 1):
        try:
            point = statements.point_of(statements.check(ring, "checkpoint", statements.read(line)))
            anchors.points[point.chain].append(point)
        except BadSignature:
            anchors.forged.append(number)
        except UnknownKey as error:
            anchors.unknown.append(f"anchors, line {number}: {error}")
        except Unreadable:
            anchors.notes.append(f"anchors, line {number}: not a checkpoint, passed over")
    if not (anchors.points or anchors.forged or anchors.unknown):
        anchors.unknown.append("anchors: there is no checkpoint in the file")
    return anchors


def verify(ring: KeyRing, *, anchors: Anchors | None = None, deep: bool = False, only: UUID | None = None) -> Report:
    """Verify the whole log, or one chain of it."""
    outside = anchors or Anchors()
    ids = [only] if only else sorted({*storage.chain_ids(), *outside.points})
    chains = [verify_chain(ring, chain, outside.points.get(chain, []), deep=deep) for chain in ids]
    notes = list(outside.notes)
    if anchors is None:
        notes.append("no anchors given: entries missing at the end, or a rewrite with a stolen key, may go unseen")
    forged = tuple(f"anchors, line {number}" for number in outside.forged)
    return Report(tuple(chains), tuple(triggers.differences(connection)) + forged, tuple(notes), tuple(outside.unknown))


def verify_chain(ring: KeyRing, chain: UUID, anchors: list[Point], *, deep: bool = False) -> ChainReport:
    """Verify one chain; again when it was pruned meanwhile."""
    while True:
        carry = storage.carry(chain)
        report = _verify_chain(ring, chain, anchors, deep)
        after = storage.carry(chain)
        if not report.found or (after and after.pruned_to) == (carry and carry.pruned_to):
            return report


def _verify_chain(ring: KeyRing, chain: UUID, anchors: list[Point], deep: bool) -> ChainReport:
    # The head first: what is written from now on lies behind it.
    head = storage.head(chain)
    found: list[Finding | Unverifiable] = []
    start = _start(ring, chain, found)
    signed = _stored_points(ring, chain, found)
    points: dict[int, list[Point]] = defaultdict(list)
    for point in (*anchors, *signed):
        points[point.size].append(point)
    plan = Plan(start, ring.macs, points, digests=deep, deep=deep)
    walked = walk(plan, storage.rows(chain, up_to=head.size or 0, deep=deep))
    found = [walked.stopped, *found] if walked.stopped else _end(walked, head, points, found)
    return ChainReport(chain, walked.size, start.size, len(anchors), tuple(found))


def _start(ring: KeyRing, chain: UUID, found: list[Finding | Unverifiable]) -> Point:
    carry = storage.carry(chain)
    if carry is None:
        return beginning(chain)
    try:
        signed = statements.Signed(carry.text, bytes(carry.signature))
        point = statements.point_of(statements.check(ring, "carry", signed))
    except UnknownKey as error:
        found.append(Unverifiable(carry.pruned_to, error.key_id))
        return beginning(chain)
    except (BadSignature, Unreadable):
        point = None
    if point is None or (point.chain, point.size) != (chain, carry.pruned_to):
        found.append(Finding("signature", carry.pruned_to, KINDS["signature"]))
        return beginning(chain)
    return point


def _stored_points(ring: KeyRing, chain: UUID, found: list[Finding | Unverifiable]) -> list[Point]:
    points: list[Point] = []
    before = ""
    for expected, (number, signed) in enumerate(storage.checkpoints(chain), 1):
        try:
            fields = statements.check(ring, "checkpoint", signed)
            point = statements.point_of(fields)
        except UnknownKey as error:
            found.append(Unverifiable(0, error.key_id))
            continue
        except (BadSignature, Unreadable):
            found.append(Finding("signature", None, f"checkpoint {number}: {KINDS['signature']}"))
            continue
        if number != expected or fields.get("before") != before or point.chain != chain:
            found.append(Finding("checkpoint", point.size, f"checkpoint {number}: {KINDS['checkpoint']}"))
        before = signed.hash
        if not points or points[-1].size != point.size:
            points.append(point)
    return points


def _end(
    walked: Walked, head: storage.Head, points: dict[int, list[Point]], found: list[Finding | Unverifiable]
) -> list[Finding | Unverifiable]:
    """Judge the end of a chain whose entries are good as far as they go."""
    if walked.size < max([head.size or 0, *points]):
        found.insert(0, Finding("truncated", walked.size + 1, KINDS["truncated"]))
    elif head.size is None or walked.head != head.head or _beyond(walked, head):
        found.insert(0, Finding("head", walked.size, KINDS["head"]))
    return found


def _beyond(walked: Walked, head: storage.Head) -> bool:
    return head.last is not None and head.last != walked.size
