"""What the brain's database holds, for the checker; runs inside ``manage.py shell``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.db.models import Sum, TextField
from django.db.models.functions import Cast

from brain.models import Agent, AgentProcess, Event, MetricMinute, Quarantine, Task

_TASK = (
    "task_id", "state", "attempt", "retries", "queue", "name",
    "published_at", "started_at", "finished_at", "run_ms", "wait_ms",
)  # fmt: skip
_METRIC = ("minute", "measure", "queue", "name", "bucket", "count")
_PROCESS = ("pid", "produced", "dropped", "buffer_depth")


def dump(path: str) -> None:
    """Write the whole of it to a file, as JSON."""
    events = Event.objects.annotate(text=Cast("payload", TextField()))
    document: dict[str, Any] = {
        "events": [
            [json.loads(text).get("journal"), kind, task, agent]
            for text, kind, task, agent in events.values_list("text", "kind", "task_id", "agent__name")
        ],
        "tasks": list(Task.objects.values(*_TASK)),
        "metrics": list(MetricMinute.objects.values(*_METRIC)),
        "visible": dict(Agent.objects.values_list("name", "visible")),
        "dropped": dict(Agent.objects.annotate(all=Sum("processes__dropped")).values_list("name", "all")),
        "processes": list(AgentProcess.objects.values(*_PROCESS)),
        "quarantine": Quarantine.objects.count(),
    }
    Path(path).write_text(json.dumps(document, default=str))
