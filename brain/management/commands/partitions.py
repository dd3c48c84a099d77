"""``z4j partitions``: show the day partitions of events, and repair them."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from brain import partitions, retention
from brain.models import Event, Project


class Command(BaseCommand):
    """Show or repair."""

    help = (
        "Show the day partitions of the events table; with --repair create, empty and drop what the hourly job would."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what to do and the format."""
        parser.add_argument(
            "--repair",
            action="store_true",
            help="create missing days, move events out of the default partition, remove what is past retention",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Repair if asked to, then show."""
        report: dict[str, Any] = {"database": connection.vendor}
        if options["repair"]:
            report["repaired"] = _repair()
        report |= _shown()
        if options["json"]:
            self.stdout.write(json.dumps(report, default=str))
            return
        self._print(report)

    def _print(self, report: dict[str, Any]) -> None:
        for what, count in report.get("repaired", {}).items():
            self.stdout.write(f"{what.replace('_', ' ')}: {count}")
        if report["database"] != "postgresql":
            self.stdout.write(
                "SQLite has no partitions: events are in one table, and what is past retention is deleted from it.\n"
                f"oldest event: {report['oldest'] or 'none yet'}"
            )
            return
        self.stdout.write(f"{'partition':34} {'about rows':>12} {'size':>10}  state")
        for row in report["partitions"]:
            self.stdout.write(f"{row['name']:34} {row['rows']:>12,} {filesizeformat(row['size']):>10}  {row['state']}")
        if report["missing"]:
            self.stdout.write(f"missing: {', '.join(map(str, report['missing']))}; run: z4j partitions --repair")
        if report["in_default"]:
            self.stdout.write(f"{report['in_default']:,} events in the default partition; run: z4j partitions --repair")


def _repair() -> dict[str, int]:
    created = partitions.create_ahead()
    moved = partitions.empty_default()
    return {"days_created": len(created) + len(moved), **dataclasses.asdict(retention.remove_expired())}


def _shown() -> dict[str, Any]:
    if connection.vendor != "postgresql":
        oldest = Event.objects.order_by("id").values_list("occurred_at", flat=True).first()
        return {"oldest": oldest}
    today = timezone.now().date()
    retained = max(Project.objects.values_list("event_retention_days", flat=True), default=0)
    rows = partitions.listing()
    days = {row.day for row in rows}
    wanted = [today + timedelta(days=offset) for offset in range(partitions.AHEAD_DAYS + 1)]
    return {
        "partitions": [{**dataclasses.asdict(row), "state": _state(row.day, today, retained)} for row in rows],
        "missing": [day for day in wanted if day not in days],
        "in_default": partitions.in_default(),
    }


def _state(day: date | None, today: date, retained: int) -> str:
    if day is None:
        return "default: for days without a partition; should be empty"
    if day > today:
        return "ahead"
    if day == today:
        return "today"
    if day < today - timedelta(days=retained):
        return "past every project's retention: the hourly job drops it"
    return "kept"
