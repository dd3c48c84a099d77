"""Counts per minute: how many tasks ended how, and how long they waited and ran."""

from __future__ import annotations

from django.db import models

from brain.models.project import Project


class Measure(models.TextChoices):
    """What is counted. ``run`` and ``wait`` are histograms: ``bucket`` is the logarithmic bucket of the duration."""

    PUBLISHED = "published", "Published"
    STARTED = "started", "Started"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    RETRIED = "retried", "Retried"
    REVOKED = "revoked", "Revoked"
    REJECTED = "rejected", "Rejected"
    RUN = "run", "Run time"
    WAIT = "wait", "Wait time"


class MetricMinute(models.Model):
    """A counter of one measure in one minute. The sum over all rows equals a recount of the task table."""

    project = models.ForeignKey(
        Project, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    minute = models.DateTimeField()
    engine = models.CharField(max_length=32)
    queue = models.CharField(max_length=255, default="")
    name = models.CharField(max_length=255, default="")
    measure = models.CharField(max_length=16, choices=Measure.choices)
    bucket = models.SmallIntegerField(default=0)
    count = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "minute", "measure", "engine", "queue", "name", "bucket"], name="z4j_metric_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.measure} {self.name} {self.minute:%H:%M}: {self.count}"
