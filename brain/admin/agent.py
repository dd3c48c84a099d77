"""Agents, to look at: they are minted and revoked on their own page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from brain.admin.lookups import NoPatterns
from brain.models import Agent

_SHOWN = ("name", "project", "created_at", "created_by", "last_seen_at", "revoked_at", "visible")


@admin.register(Agent)
class AgentAdmin(NoPatterns, admin.ModelAdmin):
    """Read-only; no secret is a field here."""

    list_display = ["name", "project", "created_at", "created_by", "last_seen_at", "revoked_at"]
    list_select_related = ["project"]
    search_fields = ["name", "project__slug"]
    fields = _SHOWN
    readonly_fields = _SHOWN

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: a credential is shown once, by the page that mints it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: events name their agent."""
        return False
