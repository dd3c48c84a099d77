"""Projects and their members."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.record import record
from brain.admin.lookups import NoPatterns
from brain.models import Membership, Project


class MembershipInline(admin.TabularInline):
    """The members of a project."""

    model = Membership
    extra = 1
    fields = ["user", "role"]
    autocomplete_fields = ["user"]


@admin.register(Project)
class ProjectAdmin(NoPatterns, admin.ModelAdmin):
    """Projects; archiving closes one, nothing deletes it."""

    list_display = [
        "name", "slug", "environment", "event_retention_days", "task_retention_days", "metric_retention_days",
        "archived_at",
    ]  # fmt: skip
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

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save the members with an audit entry for each one that changed."""
        super().save_formset(request, form, formset, change)
        changed = [membership for membership, _ in formset.changed_objects]
        for membership in [*formset.new_objects, *changed]:
            _record(request, membership, "membership.set", {"role": membership.role})
        for membership in formset.deleted_objects:
            _record(request, membership, "membership.remove", {})


@admin.register(Membership)
class MembershipAdmin(NoPatterns, admin.ModelAdmin):
    """Who may do what where."""

    list_display = ["user", "project", "role"]
    list_filter = ["role"]
    search_fields = ["user__email", "project__slug"]
    autocomplete_fields = ["user", "project"]

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        """Save with an audit entry."""
        super().save_model(request, obj, form, change)
        _record(request, obj, "membership.set", {"role": obj.role})

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        """Delete with an audit entry."""
        _record(request, obj, "membership.remove", {})
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        """Delete several, with an audit entry each."""
        for membership in queryset.select_related("user"):
            _record(request, membership, "membership.remove", {})
        super().delete_queryset(request, queryset)


def _record(request: HttpRequest, membership: Membership, action: str, detail: dict[str, Any]) -> None:
    target = f"user:{membership.user.email}"
    record(chain_id=membership.project_id, actor=str(request.user), action=action, target=target, detail=detail)
