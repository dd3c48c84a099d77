"""What people can do: retry, cancel, mint, revoke."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse
from z4j_core.versions import package_version

from audit.models import Entry
from brain import tokens
from brain.models import Agent, Command

pytestmark = pytest.mark.django_db


def act(client, task, action: str, **fields: str):
    return client.post(reverse("task-action", args=["shop", task.pk, action]), fields)


@pytest.mark.parametrize("person", ["alice", "bob"])
def test_who_may_act_asks_for_a_retry(browse, make_task, connected, person):
    task = make_task("failed")
    answer = act(browse(person), task, "retry_task")
    assert answer["Location"] == reverse("task", args=["shop", task.pk])
    command = Command.objects.get()
    assert (command.action, command.issued_by_label) == ("retry_task", f"{person}@example.com")
    assert Entry.objects.filter(action="task.retry_task").count() == 1


def test_a_viewer_may_not_act_and_sees_why(browse, make_task, connected):
    carol, task = browse("carol"), make_task("failed")
    for action in ("retry_task", "cancel_task"):
        answer = act(carol, task, action, confirmed="yes")
        assert answer.status_code == 403
        assert "does not allow" in answer.text
    assert not Command.objects.exists()
    text = carol.get(reverse("task", args=["shop", task.pk])).text
    assert re.search(r'id="do-retry_task"[^>]*disabled', text)
    assert "Your role does not allow this." in text


def test_a_destructive_action_asks_first(browse, make_task, connected):
    bob, task = browse("bob"), make_task("started")
    answer = act(bob, task, "cancel_task", confirmed="")
    assert answer.status_code == 200
    assert 'name="confirmed" value="yes"' in answer.text
    assert not Command.objects.exists()
    assert act(bob, task, "cancel_task", confirmed="yes").status_code == 302
    assert Command.objects.get().action == "cancel_task"


def test_what_is_not_possible_now_is_a_conflict(browse, make_task):
    answer = act(browse("bob"), make_task("failed"), "retry_task")
    assert answer.status_code == 409
    assert "No connected agent" in answer.text


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"mode": "operate", "deny_tasks": ["shop.*"]}, "Z4J_POLICY_DENY_TASKS denies the task 'shop.pay'"),
        ({"mode": "operate", "allow_queues": ["other"]}, "Z4J_POLICY_ALLOW_QUEUES does not list the queue 'mail'"),
        ({"mode": "observe"}, "Z4J_POLICY=observe allows no actions"),
    ],
)
def test_what_the_agent_s_owner_does_not_allow_is_said_and_not_asked(browse, make_task, connected, policy, reason):
    connected.policy = policy
    # As an agent does: what is never allowed is not announced.
    connected.capabilities = {"celery": [] if policy["mode"] == "observe" else ["retry_task", "cancel_task"]}
    connected.save()
    bob, task = browse("bob"), make_task("failed")
    text = bob.get(reverse("task", args=["shop", task.pk])).text.replace("&#x27;", "'")
    assert re.search(r'id="do-retry_task"[^>]*disabled', text)
    assert f"Refused by the policy of agent web-1: {reason}." in text
    assert act(bob, task, "retry_task").status_code == 409
    assert not Command.objects.exists()


def test_another_process_that_may_is_asked_instead(browse, make_task, connected):
    connected.policy = {"mode": "operate", "deny_tasks": ["*"]}
    connected.save()
    connected.pk, connected.worker_id, connected.policy = None, "w2", None
    connected.save()
    assert act(browse("bob"), make_task("failed"), "retry_task").status_code == 302


def test_a_policy_that_cannot_be_read_changes_nothing(browse, make_task, connected):
    connected.policy = {"mode": "root"}
    connected.save()
    assert act(browse("bob"), make_task("failed"), "retry_task").status_code == 302


def test_an_action_that_does_not_exist_is_not_found(browse, make_task, connected):
    assert act(browse("bob"), make_task("failed"), "explode").status_code == 404
    assert browse("bob").get(reverse("task-action", args=["shop", make_task().pk, "retry_task"])).status_code == 405


def test_a_forged_form_does_nothing(cast, make_task, connected):
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast["bob"])
    assert act(client, make_task("failed"), "retry_task").status_code == 403
    assert not Command.objects.exists()


def mint(client, name: str):
    return client.post(reverse("agent-mint", args=["shop"]), {"name": name})


def test_a_minted_credential_is_shown_once(alice, project):
    answer = mint(alice, "web")
    token = re.search(r'<code id="token"[^>]*>(z4j_agent_[\w-]+)<', answer.text)[1]
    secret = re.search(r'<code id="hmac-secret"[^>]*>([^<]+)<', answer.text)[1]
    assert tokens.find(token)[0].name == "web"
    assert f"export Z4J_TOKEN=&quot;{token}&quot;" in answer.text
    assert "http://testserver" in answer.text
    assert "no-store" in answer["Cache-Control"]
    agent = Agent.objects.get()
    for name, extra in (("overview", []), ("agents", []), ("connect", []), ("agent-progress", [agent.pk])):
        text = alice.get(reverse(name, args=["shop", *extra])).text
        assert token not in text
        assert secret not in text


def test_a_name_in_use_or_empty_is_said_on_the_form(alice, project):
    mint(alice, "web")
    again = mint(alice, "web")
    assert again.status_code == 409
    assert "A credential is shown once" in again.text
    assert mint(alice, "  ").status_code == 400
    assert Agent.objects.count() == 1


def test_the_lines_to_install_work_from_a_checkout(alice, project):
    text = mint(alice, "a\0b").text
    assert "pip install ./agents/z4j-core ./agents/z4j-bare ./agents/z4j-celery ./agents/z4j-django" in text
    assert f"a checkout of this version of z4j ({package_version('z4j')})" in text
    assert "os.environ.get(&quot;Z4J_TOKEN&quot;)" in text
    assert "os.environ[" not in text


def test_the_banner_of_a_command_is_neutral(browse, make_task, connected):
    bob, task = browse("bob"), make_task("failed")
    act(bob, task, "retry_task")
    assert re.search(r'note tone-idle">[^<]*was asked for', bob.get(reverse("task", args=["shop", task.pk])).text)


@pytest.mark.parametrize("person", ["bob", "carol"])
def test_only_admins_mint_and_revoke(browse, agent, person):
    client = browse(person)
    assert mint(client, "mine").status_code == 403
    assert client.post(reverse("agent-revoke", args=["shop", agent.agent.pk]), {"confirmed": "yes"}).status_code == 403
    assert Agent.objects.filter(revoked_at=None).count() == 1
    text = client.get(reverse("connect", args=["shop"])).text
    assert "does not allow connecting agents" in text


def test_revoking_asks_first(alice, agent):
    url = reverse("agent-revoke", args=["shop", agent.agent.pk])
    assert alice.post(url).status_code == 200
    assert tokens.find(agent.token) is not None
    assert alice.post(url, {"confirmed": "yes"})["Location"] == reverse("agents", args=["shop"])
    assert tokens.find(agent.token) is None


def test_the_checklist_ticks_itself(alice, agent, connected, make_task):
    url = reverse("agent-progress", args=["shop", agent.agent.pk])
    connected.delete()

    def done() -> list[str]:
        return re.findall(r'<li id="step-(\w+)" class="done">', alice.get(url).text)

    assert done() == ["created"]
    connected.pk = None
    connected.save()
    assert done() == ["created", "connected"]


def test_the_checklist_ends_with_the_first_task_of_this_agent(alice, agent, ingest):
    from tests.conftest import life

    ingest(life("t1"))
    text = alice.get(reverse("agent-progress", args=["shop", agent.agent.pk])).text
    assert re.findall(r'<li id="step-(\w+)" class="done">', text) == ["created", "event", "task"]
    assert 'data-done="true"' in text
    assert "hx-trigger" not in text
