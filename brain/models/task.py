"""The current state of tasks (a fold of their events), and the names, queues and workers seen in them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from brain.models.project import Project
from brain.states import TERMINAL_STATES, TaskState


class Task(models.Model):
    """One task of one engine. Only :mod:`brain.ingest` writes it.

    ``created_at`` is the earliest moment known of it when the brain first saw it, and never changes: lists are ordered
    by it. The columns from ``attempt`` on are facts of the latest attempt.
    """

    project = models.ForeignKey(
        Project, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    engine = models.CharField(max_length=32)
    task_id = models.CharField(max_length=255)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    revision = models.BigIntegerField(default=1)

    name = models.CharField(max_length=255, default="")
    queue = models.CharField(max_length=255, default="")
    priority = models.IntegerField(null=True)
    args = models.TextField(default="", help_text="JSON text, as captured.")
    kwargs = models.TextField(default="", help_text="JSON text, as captured.")
    replay_quality = models.SmallIntegerField(default=0)
    replayable = models.BooleanField(null=True)
    replay_reason = models.CharField(max_length=255, default="")
    root_task_id = models.CharField(max_length=255, default="")
    parent_task_id = models.CharField(max_length=255, default="")
    group_id = models.CharField(max_length=255, default="")
    retry_of = models.CharField(max_length=255, default="")
    published_at = models.DateTimeField(null=True)
    retries = models.IntegerField(default=0)

    attempt = models.IntegerField(default=0)
    told_rank = models.SmallIntegerField(default=-1)
    state = models.CharField(max_length=16, default=TaskState.PENDING)
    queued_at = models.DateTimeField(null=True)
    received_at = models.DateTimeField(null=True)
    eta = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    last_started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    worker = models.CharField(max_length=255, default="")
    executed_twice = models.BooleanField(default=False)
    told_run_ms = models.BigIntegerField(null=True)
    run_ms = models.BigIntegerField(null=True)
    wait_ms = models.BigIntegerField(null=True)
    result = models.TextField(default="")
    exception = models.CharField(max_length=255, default="")
    exception_message = models.TextField(default="")
    traceback = models.TextField(default="")

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["project", "engine", "task_id"], name="z4j_task_once")]
        # No other index may begin with (project, engine): while a table is new, PostgreSQL takes it for as good as the
        # unique one, and the look-up of one task reads all of an engine's.
        indexes = [
            models.Index(fields=["project", "-created_at", "-id"], name="z4j_task_created"),
            models.Index(fields=["project", "state", "-created_at", "-id"], name="z4j_task_state"),
            models.Index(fields=["project", "name", "-created_at", "-id"], name="z4j_task_name"),
            models.Index(fields=["project", "queue", "-created_at", "-id"], name="z4j_task_queue"),
            models.Index(
                fields=["project", "-finished_at", "-id"],
                name="z4j_task_failed",
                condition=models.Q(state=TaskState.FAILED.value),
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.task_id

    @property
    def is_finished(self) -> bool:
        """Whether the latest attempt has ended for good."""
        return self.state in TERMINAL_STATES


class _Seen(models.Model):
    """A name that turned up in events; ``last_seen_at`` is kept to the minute."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", db_index=False)
    engine = models.CharField(max_length=32)
    name = models.CharField(max_length=255)
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TaskName(_Seen):
    """A task name; search by name resolves here first."""

    class Meta(_Seen.Meta):
        constraints = [models.UniqueConstraint(fields=["project", "name", "engine"], name="z4j_taskname_once")]


class Queue(_Seen):
    """A queue, with its depth as an agent last told it (null: not told)."""

    depth = models.BigIntegerField(null=True)
    depth_at = models.DateTimeField(null=True)

    class Meta(_Seen.Meta):
        constraints = [models.UniqueConstraint(fields=["project", "name", "engine"], name="z4j_queue_once")]


class Worker(_Seen):
    """A worker as the engine names it."""

    class Meta(_Seen.Meta):
        constraints = [models.UniqueConstraint(fields=["project", "name", "engine"], name="z4j_worker_once")]
