"""The rows of the log. Written by :mod:`audit.record` only, never changed."""

from __future__ import annotations

from typing import Any

from django.db import models

from audit.errors import AppendOnly


class Chain(models.Model):
    """The head of one chain: how many entries it has and the mac of the last. ``id`` is the project's, or zero."""

    id = models.UUIDField(primary_key=True)
    size = models.BigIntegerField(default=0)
    head = models.BinaryField(max_length=32)
    #: The key its last entry was written with.
    key_id = models.CharField(max_length=16, default="k1")

    def __str__(self) -> str:
        return f"chain {self.id} of {self.size}"


class AppendOnlyQuerySet(models.QuerySet[Any]):
    """Refuses what would change rows."""

    def update(self, **kwargs: Any) -> int:
        """Refuse."""
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        """Refuse."""
        raise AppendOnly


class AppendOnlyModel(models.Model):
    """Rows that are added and never changed; the database refuses it too, see :mod:`audit.triggers`."""

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save a new row; refuse to change one."""
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refuse."""
        raise AppendOnly


class Carry(AppendOnlyModel):
    """Where a chain begins after its older entries were exported and removed: a signed statement."""

    chain = models.ForeignKey(Chain, on_delete=models.PROTECT, related_name="carries", db_index=False)
    pruned_to = models.BigIntegerField()
    text = models.TextField()
    signature = models.BinaryField(max_length=64)

    class Meta:
        verbose_name_plural = "carries"
        constraints = [models.UniqueConstraint(fields=["chain", "pruned_to"], name="z4j_audit_carry_once")]

    def __str__(self) -> str:
        return f"chain {self.chain_id} pruned to {self.pruned_to}"


class Entry(AppendOnlyModel):
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

    class Meta:
        ordering = ["chain", "-seq"]
        verbose_name_plural = "entries"
        constraints = [models.UniqueConstraint(fields=["chain", "seq"], name="z4j_audit_seq_once")]
        indexes = [models.Index(fields=["chain", "target", "-seq"], name="z4j_audit_target")]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"


class Checkpoint(AppendOnlyModel):
    """A signed statement of a chain's size and head; written after every sink has taken it."""

    chain = models.ForeignKey(Chain, on_delete=models.PROTECT, related_name="checkpoints", db_index=False)
    number = models.BigIntegerField()
    size = models.BigIntegerField()
    at = models.DateTimeField()
    text = models.TextField()
    signature = models.BinaryField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chain", "number"], name="z4j_audit_checkpoint_once")]

    def __str__(self) -> str:
        return f"checkpoint {self.number} of chain {self.chain_id} at {self.size}"
