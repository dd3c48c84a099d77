"""The admin site: what it changes leaves an audit entry."""

from __future__ import annotations

import pytest
from django.urls import reverse

from audit.models import Entry
from brain.models import Membership, User

pytestmark = pytest.mark.django_db
NEW = "correct horse battery staple"


@pytest.fixture
def root(client):
    """A signed-in site administrator."""
    user = User.objects.create_superuser("root@example.com", NEW)
    client.force_login(user)
    return user


def actions() -> list[str]:
    return list(Entry.objects.order_by("id").values_list("action", flat=True))


def test_people_created_promoted_given_a_password_and_deleted_are_audited(client, root):
    form = {"email": "new@example.com", "password1": NEW, "password2": NEW, "usable_password": "true"}
    assert client.post(reverse("admin:z4j_brain_user_add"), form).status_code == 302
    user = User.objects.get(email="new@example.com")
    change = {
        "email": user.email, "name": "", "is_active": "on", "is_staff": "on", "is_superuser": "on",
        "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "last_login_0": "", "last_login_1": "",
    }  # fmt: skip
    assert client.post(reverse("admin:z4j_brain_user_change", args=[user.pk]), change).status_code == 302
    password = {"password1": NEW + "!", "password2": NEW + "!", "usable_password": "true"}
    url = reverse("admin:auth_user_password_change", args=[user.pk])
    assert client.post(url, password).status_code == 302
    client.post(reverse("admin:z4j_brain_user_delete", args=[user.pk]), {"post": "yes"})
    found = [action for action in actions() if action.startswith("user.") and action != "user.login"]
    assert found == ["user.create", "user.change", "user.set_password", "user.delete"]
    promoted = Entry.objects.get(action="user.change")
    assert '"is_superuser":true' in promoted.body


def test_members_added_on_the_project_page_are_audited(client, root, project, cast):
    url = reverse("admin:z4j_brain_project_change", args=[project.pk])
    rows = list(Membership.objects.filter(project=project).order_by("user"))
    form = {
        "slug": project.slug, "name": project.name, "environment": "", "event_retention_days": 30,
        "task_retention_days": 90, "metric_retention_days": 90, "archived_at_0": "", "archived_at_1": "",
        "memberships-TOTAL_FORMS": len(rows) + 1, "memberships-INITIAL_FORMS": len(rows),
    }  # fmt: skip
    for index, row in enumerate(rows):
        form |= {
            f"memberships-{index}-id": row.pk,
            f"memberships-{index}-project": str(project.pk),
            f"memberships-{index}-user": row.user_id,
            f"memberships-{index}-role": "admin" if row.user.email.startswith("carol") else row.role,
        }
    last = len(rows)
    form |= {f"memberships-{last}-project": str(project.pk), f"memberships-{last}-user": cast["mallory"].pk}
    form |= {f"memberships-{last}-role": "viewer"}
    assert client.post(url, form).status_code == 302
    entries = Entry.objects.filter(action="membership.set").order_by("target").values_list("target", flat=True)
    assert list(entries) == ["user:carol@example.com", "user:mallory@example.com"]


@pytest.mark.storage
@pytest.mark.parametrize("query", ["name__regex=%2A%2A", "email__iregex=%28", "email__contains=%00"])
def test_a_filter_the_database_cannot_take_is_no_fault_of_the_brain(client, db, query):
    client.force_login(User.objects.create_superuser("root@example.com", "correct horse battery"))
    assert client.get(f"/admin/z4j_brain/user/?{query}").status_code in {200, 302, 400}
