"""``z4j audit``: verify, export and checkpoint the audit log."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db.utils import DatabaseError

from audit import checkpoints, keys, retention, storage, verify
from audit.errors import AuditError, UnknownKey
from audit.export import export
from audit.walk import Unverifiable


class Command(BaseCommand):
    """Parse, call, print. Ends with 0 intact or done, 1 tampered, 2 cannot verify."""

    help = "Verify the audit log, export it, or have its state signed."
    # Verification must work on a database that is not whole; the checks would refuse before it is looked at.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what to do."""
        parsers = parser.add_subparsers(dest="what", required=True)
        one = parsers.add_parser("verify", help="verify every chain; exit 0 intact, 1 tampered, 2 cannot verify")
        one.add_argument("--deep", action="store_true", help="columns, text and digests too")
        one.add_argument("--anchors", type=Path, metavar="FILE", help="checkpoints kept outside the database")
        one.add_argument("--chain", type=UUID, help="this chain only")
        one.add_argument("--json", action="store_true", help="print one JSON object")
        one = parsers.add_parser("export", help="write the log as JSON lines that the public key verifies")
        one.add_argument("--chain", type=UUID, help="this chain only")
        one.add_argument("--output", type=Path, metavar="FILE", help="a new file; default: standard output")
        one = parsers.add_parser("checkpoint", help="sign where every chain stands, now")
        one = parsers.add_parser("prune", help="export and remove what is older; a signed carry row stays")
        one.add_argument("--chain", type=UUID, required=True)
        one.add_argument("--days", type=int, required=True, help="keep the entries of this many days")
        one.add_argument("--output", type=Path, required=True, metavar="FILE", help="a new file for what is removed")
        parsers.add_parser("public-key", help="print the public keys that signatures are verified with")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        action = getattr(self, "_" + options["what"].replace("-", "_"))
        try:
            status = action(options)
        except UnknownKey as error:
            raise CommandError(str(error), returncode=verify.UNVERIFIABLE) from error
        except AuditError as error:
            raise CommandError(str(error), returncode=verify.TAMPERED) from error
        except (DatabaseError, OSError, UnicodeError) as error:
            raise CommandError(f"cannot {options['what']}: {error}", returncode=verify.UNVERIFIABLE) from error
        if status:
            sys.exit(status)

    def _verify(self, options: dict[str, Any]) -> int:
        ring, anchors = keys.ring(), None
        if options["anchors"]:
            with options["anchors"].open(encoding="utf-8", errors="replace") as file:
                anchors = verify.read_anchors(file, ring)
        report = verify.verify(ring, anchors=anchors, deep=options["deep"], only=options["chain"])
        if options["json"]:
            self.stdout.write(json.dumps(_told(report)))
        else:
            self._print(report)
        return report.status

    def _print(self, report: verify.Report) -> None:
        for chain in report.chains:
            first = f", from entry {chain.pruned_to + 1}" if chain.pruned_to else ""
            self.stdout.write(
                f"chain {chain.chain}: {chain.size:,} entries good{first}, {chain.anchors} anchors"
            )  # fmt: skip
            for found in chain.found:
                self.stdout.write(f"  {_line(found)}")
        for name in report.triggers:
            self.stdout.write(f"not as this brain made it: {name}")
        for note in (*report.unverifiable, *report.notes):
            self.stdout.write(note)
        self.stdout.write(("intact", "TAMPERED", "cannot verify")[report.status])

    def _export(self, options: dict[str, Any]) -> int:
        chains = [options["chain"]] if options["chain"] else storage.chain_ids()
        if options["output"] is None:
            export(chains, lambda text: self.stdout.write(text, ending=""))
            return 0
        with options["output"].open("x", encoding="utf-8") as file:
            digest = export(chains, file.write)
        self.stdout.write(f"sha256 {digest}")
        return 0

    def _checkpoint(self, options: dict[str, Any]) -> int:
        for chain in storage.chain_ids():
            self.stdout.write(checkpoints.make(chain).line)
        return 0

    def _prune(self, options: dict[str, Any]) -> int:
        before = datetime.now(UTC) - timedelta(days=options["days"])
        removed = retention.prune(options["chain"], before, options["output"])
        self.stdout.write(f"{removed:,} entries exported and removed")
        return 0

    def _public_key(self, options: dict[str, Any]) -> int:
        for public in keys.ring().public.values():
            self.stdout.write(keys.raw(public).hex())
        return 0


def _line(found: Any) -> str:
    if isinstance(found, Unverifiable):
        return f"cannot verify from entry {found.seq} on: no secret gives key {found.key_id}"
    return f"{found.kind}: {found.text}" + (f" (entry {found.seq})" if found.seq is not None else "")


def _told(report: verify.Report) -> dict[str, Any]:
    chains = [
        {
            "chain": str(chain.chain),
            "size": chain.size,
            "pruned_to": chain.pruned_to,
            "anchors": chain.anchors,
            "found": [
                {
                    "kind": getattr(found, "kind", "unverifiable"),
                    "seq": found.seq,
                    "text": _line(found),
                }
                for found in chain.found
            ],
        }
        for chain in report.chains
    ]
    return {
        "status": ("intact", "tampered", "unverifiable")[report.status],
        "chains": chains,
        "changed": list(report.triggers),
        "unverifiable": list(report.unverifiable),
        "notes": list(report.notes),
    }
