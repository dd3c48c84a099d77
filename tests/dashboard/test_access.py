"""Who gets to which page."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db


def project_urls(task_pk: int, agent_id: object) -> list[str]:
    """Return every GET address below a project."""
    return [
        reverse("overview", args=["shop"]),
        reverse("overview-live", args=["shop"]),
        reverse("overview-chart", args=["shop"]),
        reverse("tasks", args=["shop"]),
        reverse("tasks-live", args=["shop"]),
        reverse("task", args=["shop", task_pk]),
        reverse("task-live", args=["shop", task_pk]),
        reverse("task-text", args=["shop", task_pk, "args"]),
        reverse("agents", args=["shop"]),
        reverse("connect", args=["shop"]),
        reverse("agent-progress", args=["shop", agent_id]),
    ]


@pytest.fixture
def urls(make_task, agent) -> list[str]:
    """All of them, for a task and an agent that exist."""
    return project_urls(make_task().pk, agent.agent.pk)


@pytest.mark.parametrize("person", ["alice", "bob", "carol"])
def test_members_see_every_page(browse, urls, person):
    client = browse(person)
    for url in urls:
        expected = 403 if person != "alice" and "progress" in url else 200
        assert client.get(url).status_code == expected, url


@pytest.mark.parametrize("person", ["alice", "bob", "carol"])
def test_members_see_every_page_of_an_empty_project(browse, project, person):
    client = browse(person)
    for name in ("overview", "overview-live", "overview-chart", "tasks", "tasks-live", "agents", "connect"):
        assert client.get(reverse(name, args=["shop"])).status_code == 200, name


def test_a_stranger_of_the_project_finds_nothing(browse, urls, make_task, agent):
    client = browse("mallory")
    for url in urls:
        answer = client.get(url)
        assert answer.status_code == 404, url
        assert b"Shop" not in answer.content
    task = make_task()
    for url in (
        reverse("task-action", args=["shop", task.pk, "retry_task"]),
        reverse("agent-mint", args=["shop"]),
        reverse("agent-revoke", args=["shop", agent.agent.pk]),
    ):
        assert client.post(url, {"confirmed": "yes", "name": "x"}).status_code == 404, url


def test_rows_of_another_project_are_not_reached_through_ones_own(browse, urls, make_task, agent):
    client = browse("mallory")
    task = make_task()
    for url in (
        reverse("task", args=["elsewhere", task.pk]),
        reverse("task-live", args=["elsewhere", task.pk]),
        reverse("task-text", args=["elsewhere", task.pk, "args"]),
        reverse("agent-progress", args=["elsewhere", agent.agent.pk]),
    ):
        assert client.get(url).status_code == 404
    revoke = reverse("agent-revoke", args=["elsewhere", agent.agent.pk])
    assert client.post(revoke, {"confirmed": "yes"}).status_code == 404
    retry = reverse("task-action", args=["elsewhere", task.pk, "retry_task"])
    assert client.post(retry).status_code == 404
    live = client.get(reverse("tasks-live", args=["elsewhere"]), {"seen": f"{task.pk}:0"})
    assert task.task_id not in live.text


def test_who_is_not_signed_in_is_sent_to_the_login_page(urls):
    for url in urls:
        answer = Client().get(url)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/login/?next=")


def test_a_part_of_a_page_sends_the_whole_page_to_the_login(project):
    url = reverse("overview-live", args=["shop"])
    answer = Client().get(url, headers={"hx-request": "true", "hx-current-url": "http://testserver/p/shop/"})
    assert answer["HX-Redirect"] == "/login/?next=/p/shop/"


def test_home_leads_to_the_last_project_or_the_first(alice, project, browse):
    assert alice.get("/")["Location"] == "/p/shop/"
    assert browse("mallory").get("/")["Location"] == "/p/elsewhere/"


def test_home_says_when_there_is_no_project(cast):
    from brain.models import Membership

    Membership.objects.all().delete()
    client = Client()
    client.force_login(cast["carol"])
    answer = client.get("/")
    assert answer.status_code == 200
    assert "not a member of any project" in answer.text


def test_admin_is_offered_to_staff_only(alice, cast):
    assert "/admin/" not in alice.get("/p/shop/").text
    cast["alice"].is_staff = True
    cast["alice"].save()
    assert "/admin/" in alice.get("/p/shop/").text


def test_an_unknown_agent_or_task_is_not_found(alice, project):
    assert alice.get(reverse("task", args=["shop", 999_999])).status_code == 404
    assert alice.get(reverse("agent-progress", args=["shop", uuid4()])).status_code == 404


def test_log_in_and_out(cast):
    client = Client()
    answer = client.post("/login/", {"username": "alice@example.com", "password": "correct horse battery"})
    assert answer["Location"] == "/"
    assert client.get("/p/shop/").status_code == 200
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/")["Location"] == "/login/"
    assert client.get("/p/shop/").status_code == 302


def test_a_wrong_password_is_said_in_our_words(cast):
    text = Client().post("/login/", {"username": "alice@example.com", "password": "wrong"}).text
    assert "The e-mail address or the password is not right." in text
    assert 'id="nobody"' not in text


def test_where_the_setup_link_is_printed_is_said_while_nobody_has_an_account(db):
    assert 'id="nobody"' in Client().get("/login/").text


def test_five_wrong_passwords_lock_the_door(cast):
    client = Client()
    wrong = {"username": "alice@example.com", "password": "wrong"}
    answers = [client.post("/login/", wrong, REMOTE_ADDR="198.51.100.7").status_code for _ in range(6)]
    assert answers[0] == 200
    assert answers[-1] == 429
    assert "Too many attempts" in client.post("/login/", wrong, REMOTE_ADDR="198.51.100.7").text
