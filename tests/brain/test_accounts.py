"""Signing in: five wrong passwords close the door for that account from that address, also to the right one."""

from __future__ import annotations

import pytest
from django.urls import reverse

from audit.models import Entry

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


def attempt(client, email: str, password: str) -> int:
    return client.post(reverse("login"), {"username": email, "password": password}).status_code


def test_the_right_password_does_not_open_a_locked_door(client, cast):
    assert attempt(client, "alice@example.com", PASSWORD) == 302
    client.logout()
    for _ in range(5):
        attempt(client, "alice@example.com", "wrong")
    assert attempt(client, "alice@example.com", PASSWORD) == 429
    assert attempt(client, " ALICE@example.com", PASSWORD) == 429
    assert attempt(client, "bob@example.com", PASSWORD) == 302, "another account at the same address is not locked"


def test_another_address_is_not_locked(client, cast):
    for _ in range(6):
        attempt(client, "alice@example.com", "wrong")
    data = {"username": "alice@example.com", "password": PASSWORD}
    assert client.post(reverse("login"), data, REMOTE_ADDR="192.0.2.7").status_code == 302


def test_sign_ins_are_audited(client, cast):
    attempt(client, "alice@example.com", PASSWORD)
    client.post(reverse("logout"))
    actions = list(Entry.objects.order_by("id").values_list("action", "actor"))
    assert actions[-2:] == [("user.login", "alice@example.com"), ("user.logout", "alice@example.com")]
