"""Commands: what a person asked an agent to do, and what came of it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

from brain.models.agent import Agent
from brain.models.project import Project
from brain.states import CommandState


class Command(models.Model):
    """The row is the truth about a command; messages to the gateway only wake it up.

    Written by :mod:`brain.commands` only.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="commands")
    agent = models.ForeignKey(Agent, on_delete=models.SET_NULL, null=True, related_name="commands")
    action = models.CharField(max_length=64)
    engine = models.CharField(max_length=32, default="")
    target_type = models.CharField(max_length=16)
    target_id = models.CharField(max_length=300)
    parameters = models.JSONField(default=dict)
    state = models.CharField(max_length=16, default=CommandState.PENDING)
    timeout_seconds = models.PositiveIntegerField(default=60)
    issued_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="commands"
    )
    issued_by_label = models.CharField(max_length=254)
    session_id = models.CharField(max_length=64, default="", help_text="The connection it was sent over.")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    acknowledged_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    result = models.JSONField(null=True)
    error = models.TextField(default="")

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["state", "expires_at"], name="z4j_command_state"),
            models.Index(fields=["project", "target_type", "target_id", "-created_at"], name="z4j_command_target"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_id}"
