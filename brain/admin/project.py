"""Projects and their members."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from audit.record import record
from brain.models import Membership, Project


class MembershipInline(admin.TabularInline):
    """The members of a project."""

    model = Membership
    extra = 1
    fields = ["user", "role"]
    autocomplete_fields = ["user"]


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):
    """Projects; archiving closes one, nothing deletes it."""

    list_display = ["name", "slug", "environment", "event_retention_days", "task_retention_days", "archived_at"]
    search_fields = ["name", "slug"]
    inlines = [MembershipInline]
    readonly_fields = ["created_at"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: events and tasks would be left behind."""
        return False

    def save_model(self, request: HttpRequest, obj: Project, form: Any, change: bool) -> None:
        """Save with an audit entry."""
        super().save_model(request, obj, form, change)
        record(
            chain_id=obj.id,
            actor=str(request.user),
            action="project.change" if change else "project.create",
            target=f"project:{obj.slug}",
            detail={"changed": sorted(form.changed_data)},
        )


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    """Who may do what where."""

    list_display = ["user", "project", "role"]
    list_filter = ["role"]
    search_fields = ["user__email", "project__slug"]
    autocomplete_fields = ["user", "project"]

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        """Save with an audit entry."""
        super().save_model(request, obj, form, change)
        self._record(request, obj, "membership.set", {"role": obj.role})

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        """Delete with an audit entry."""
        self._record(request, obj, "membership.remove", {})
        super().delete_model(request, obj)

    def _record(self, request: HttpRequest, obj: Membership, action: str, detail: dict[str, Any]) -> None:
        target = f"user:{obj.user.email}"
        record(chain_id=obj.project_id, actor=str(request.user), action=action, target=target, detail=detail)
