"""The one-time setup page."""

from __future__ import annotations

import pytest
from django.test import Client

from brain import bootstrap
from brain.models import User

pytestmark = pytest.mark.django_db
FORM = {"email": "root@example.com", "password": "correct horse battery", "repeated": "correct horse battery"}


@pytest.fixture
def link() -> str:
    """A fresh setup link, with the projects of a first start."""
    bootstrap.ensure_projects()
    return f"/setup/{bootstrap.mint_setup_token()}"


def test_setup_creates_the_administrator_and_leads_to_connecting_an_agent(link):
    client = Client()
    assert client.get(link).status_code == 200
    answer = client.post(link, FORM)
    assert answer["Location"] == "/p/default/agents/connect/"
    assert client.get(answer["Location"]).status_code == 200
    assert User.objects.get().is_superuser


def test_the_link_works_once(link):
    Client().post(link, FORM)
    assert Client().get(link).status_code == 404
    assert Client().post(link, {**FORM, "email": "second@example.com"}).status_code == 404
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "short", "repeated": "short"},
        {"repeated": "something else"},
        {"email": "not an address"},
        {"password": "password123", "repeated": "password123"},
    ],
)
def test_what_is_wrong_is_said_and_the_link_stays_good(link, wrong):
    answer = Client().post(link, {**FORM, **wrong})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert not User.objects.exists()
    assert Client().post(link, FORM).status_code == 302


def test_a_void_link_is_not_found(db):
    answer = Client().get("/setup/nope")
    assert answer.status_code == 404
    assert "was used or has expired" in answer.text
    assert "restarting the brain prints a fresh one" in answer.text
    assert Client().post("/setup/nope", FORM).status_code == 404
