"""Agents (a credential) and agent processes (a connection that uses it)."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from brain.models.project import Project
from brain.states import AgentState


class Agent(models.Model):
    """A credential minted for a project; any number of processes may connect with it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="agents")
    name = models.CharField(max_length=100)
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    hmac_secret_encrypted = models.TextField(editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=254, blank=True, default="")
    last_seen_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    visible = models.BigIntegerField(default=0, help_text="Events of it that were stored, each counted once.")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="z4j_agent_name_once")]

    def __str__(self) -> str:
        return self.name


class AgentProcess(models.Model):
    """One connection identity: what it said in ``hello`` and in its latest heartbeat."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="processes")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="agent_processes")
    worker_id = models.CharField(max_length=255)
    session_id = models.CharField(max_length=64)
    state = models.CharField(max_length=16, default=AgentState.ONLINE)
    name = models.CharField(max_length=255, blank=True, default="")
    host = models.CharField(max_length=255, blank=True, default="")
    pid = models.BigIntegerField(null=True, blank=True)
    role = models.CharField(max_length=32, blank=True, default="")
    framework = models.CharField(max_length=64, blank=True, default="")
    agent_version = models.CharField(max_length=64, blank=True, default="")
    release = models.CharField(max_length=100, blank=True, default="")
    environment = models.CharField(max_length=64, blank=True, default="")
    engines = models.JSONField(default=list)
    schedulers = models.JSONField(default=list)
    capabilities = models.JSONField(default=dict)
    features = models.JSONField(default=list)
    policy = models.JSONField(null=True, blank=True, help_text="What its owner allows; empty when it did not say.")
    health = models.JSONField(default=dict)
    clock_skew_ms = models.IntegerField(null=True, blank=True)
    buffer_depth = models.BigIntegerField(default=0)
    produced = models.BigIntegerField(null=True, blank=True)
    dropped = models.BigIntegerField(default=0)
    told_at = models.DateTimeField(null=True, blank=True, help_text="When it told the counts above.")
    connected_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    disconnected_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-last_seen_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["agent", "worker_id"], name="z4j_process_once")]
        indexes = [models.Index(fields=["project", "state"], name="z4j_process_state")]

    def __str__(self) -> str:
        return self.name or self.worker_id

    @property
    def is_online(self) -> bool:
        """Whether the process is connected."""
        return self.state == AgentState.ONLINE
