"""The rows of the log. Written by :mod:`audit.record` only, never changed."""

from __future__ import annotations

from typing import Any

from django.db import models


class AppendOnly(Exception):
    """Entries of the audit log cannot be changed or deleted."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class Chain(models.Model):
    """The head of one chain: how many entries it has and the mac of the last. ``id`` is the project's, or zero."""

    id = models.UUIDField(primary_key=True)
    size = models.BigIntegerField(default=0)
    head = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return f"chain {self.id} of {self.size}"


class EntryQuerySet(models.QuerySet["Entry"]):
    """Refuses what would change entries."""

    def update(self, **kwargs: Any) -> int:
        """Refuse."""
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        """Refuse."""
        raise AppendOnly


class Entry(models.Model):
    """One entry. ``body`` is what the mac covers; the other columns are copies of it to filter by."""

    chain = models.ForeignKey(Chain, on_delete=models.PROTECT, related_name="entries", db_index=False)
    seq = models.BigIntegerField()
    body = models.TextField()
    key_id = models.CharField(max_length=16)
    mac = models.BinaryField(max_length=32)
    at = models.DateTimeField()
    actor = models.CharField(max_length=254)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=320)
    outcome = models.CharField(max_length=16)

    objects = EntryQuerySet.as_manager()

    class Meta:
        ordering = ["chain", "-seq"]
        verbose_name_plural = "entries"
        constraints = [models.UniqueConstraint(fields=["chain", "seq"], name="z4j_audit_seq_once")]
        indexes = [models.Index(fields=["chain", "target", "-seq"], name="z4j_audit_target")]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save a new entry; refuse to change one."""
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refuse."""
        raise AppendOnly
