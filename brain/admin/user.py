"""People."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import UserChangeForm, UserCreationForm
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.record import INSTALLATION, record
from brain.admin.lookups import NoPatterns
from brain.models import User


class NewUserForm(UserCreationForm):
    """A new person: address and password."""

    class Meta:
        model = User
        fields = ["email"]


class UserForm(UserChangeForm):
    """A person."""

    class Meta:
        model = User
        fields = "__all__"


@admin.register(User)
class UserAdmin(NoPatterns, DjangoUserAdmin):
    """People sign in with their address, so there is no user name. Every change leaves an audit entry."""

    form = UserForm
    add_form = NewUserForm
    ordering = ["email"]
    list_display = ["email", "name", "is_superuser", "is_active", "last_login"]
    list_filter = ["is_superuser", "is_active"]
    search_fields = ["email", "name"]
    filter_horizontal = []
    fieldsets = [
        (None, {"fields": ["email", "password"]}),
        ("Person", {"fields": ["name"]}),
        ("Rights", {"fields": ["is_active", "is_staff", "is_superuser"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "password1", "password2"]})]

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Save with an audit entry that names what was changed and the rights the person has now."""
        super().save_model(request, obj, form, change)
        rights = {right: getattr(obj, right) for right in ("is_active", "is_staff", "is_superuser")}
        detail = {"changed": sorted(form.changed_data), **rights}
        _record(request, "user.change" if change else "user.create", obj, detail)

    def log_change(self, request: HttpRequest, obj: User, message: Any) -> Any:
        """Note a password set on its own form, which does not pass through :meth:`save_model`."""
        if not isinstance(message, str) and any("password" in str(part) for part in message):
            _record(request, "user.set_password", obj, {})
        return super().log_change(request, obj, message)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Delete with an audit entry."""
        _record(request, "user.delete", obj, {})
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Delete several, with an audit entry each."""
        for user in queryset:
            _record(request, "user.delete", user, {})
        super().delete_queryset(request, queryset)


def _record(request: HttpRequest, action: str, user: User, detail: dict[str, Any]) -> None:
    record(chain_id=INSTALLATION, actor=str(request.user), action=action, target=f"user:{user.email}", detail=detail)
