"""Events, append-only; on PostgreSQL partitioned by day through the time inside their id."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import ClassVar

from django.db import models
from django.utils import timezone

from brain.event_ids import floor
from brain.models.agent import Agent
from brain.models.project import Project


class EventQuerySet(models.QuerySet["Event"]):
    """Queries that name their time window, so that PostgreSQL opens only the partitions of it."""

    def between(self, start: datetime, end: datetime) -> EventQuerySet:
        """Return the events whose key lies in [start, end)."""
        return self.filter(id__gte=floor(start), id__lt=floor(end))


class Event(models.Model):
    """One moment of one task as an agent told it. ``flags`` names what the brain had to change to store it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(
        Project, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    agent = models.ForeignKey(Agent, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False)
    engine = models.CharField(max_length=32)
    kind = models.CharField(max_length=64)
    task_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255, blank=True, default="")
    queue = models.CharField(max_length=255, blank=True, default="")
    worker = models.CharField(max_length=255, blank=True, default="")
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    seq = models.BigIntegerField(null=True)
    flags = models.CharField(max_length=64, blank=True, default="")
    payload = models.TextField(default="{}", help_text="JSON text, as the agent sent it.")

    objects: ClassVar[models.Manager[Event]] = models.Manager.from_queryset(EventQuerySet)()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["project", "engine", "task_id"], name="z4j_event_task")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.task_id}"


class Quarantine(models.Model):
    """A frame or an event that could not be stored, with the reason; it was acknowledged all the same."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="quarantine")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="quarantine")
    received_at = models.DateTimeField(default=timezone.now)
    reason = models.CharField(max_length=500)
    size = models.PositiveIntegerField(default=0)
    content = models.TextField(help_text="The first 8 KiB of it, with every control character shown.")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["agent", "-id"], name="z4j_quarantine_agent")]

    def __str__(self) -> str:
        return self.reason
