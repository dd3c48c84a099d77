"""Claim rows of the periodic jobs: whoever updates the row first runs the job."""

from __future__ import annotations

from django.db import models


class Job(models.Model):
    """When a periodic job is next due, and who is running it until when."""

    name = models.CharField(max_length=64, unique=True)
    next_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    owner = models.CharField(max_length=64, default="")
    last_error = models.TextField(default="")

    def __str__(self) -> str:
        return self.name
