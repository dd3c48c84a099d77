"""Commands: who may issue them, one effect each, an honest end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from z4j_core.frames import CommandResultFrame, Hello

from audit.models import Entry
from brain import agents, commands
from brain.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from brain.models import Command, Task

pytestmark = pytest.mark.django_db(transaction=True)
ABLE = {"celery": frozenset({"retry_task", "cancel_task"})}


@pytest.fixture
def online(agent):
    """A connected process of the agent that can retry and cancel."""
    found = agents.authenticate(agent.token)
    hello = Hello(id="h", worker_id="w1", engines=("celery",), capabilities={"celery": ["retry_task", "cancel_task"]})
    agents.connected(found, hello, "session-1", None)
    return found


@pytest.fixture
def failed(project, online):
    """A failed task whose arguments were captured."""
    now = timezone.now()
    return Task.objects.create(
        project=project, engine="celery", task_id="t1", name="shop.pay", queue="mail", state="failed",
        args=f"[{2**60 + 1}]", kwargs='{"a":1}', replayable=True, created_at=now, updated_at=now,
    )  # fmt: skip


def test_an_operator_issues_and_the_agent_claims_once(project, cast, failed, online):
    command = commands.issue_for_task(project, failed, "retry_task", cast["bob"])
    assert command.parameters["override_args"] == [2**60 + 1]
    assert (command.parameters["override_kwargs"], command.parameters["queue"]) == ({"a": 1}, "mail")
    frames = commands.claim(online.agent_id, "session-1", ABLE)
    assert [frame.id for frame in frames] == [str(command.id)]
    assert commands.claim(online.agent_id, "session-2", ABLE) == []
    commands.acknowledge(online.agent_id, str(command.id))
    result = CommandResultFrame(id=str(command.id), status="success", result={"task_id": "t2"})
    assert commands.complete(online.agent_id, "web", result)
    assert not commands.complete(online.agent_id, "web", result), "a second result changes nothing"
    command.refresh_from_db()
    assert (command.state, command.result) == ("succeeded", {"task_id": "t2"})
    actions = list(Entry.objects.filter(chain_id=project.id).order_by("seq").values_list("action", flat=True))
    assert actions == ["agent.mint", "task.retry_task", "task.retry_task.result"]


def test_a_connection_without_the_capability_takes_nothing(project, cast, failed, online):
    commands.issue_for_task(project, failed, "retry_task", cast["bob"])
    assert commands.claim(online.agent_id, "s", {"celery": frozenset({"cancel_task"})}) == []
    assert commands.claim(online.agent_id, "s", {"rq": frozenset({"retry_task"})}) == []


def test_viewers_and_strangers_cannot(project, cast, failed):
    with pytest.raises(PermissionDenied):
        commands.issue_for_task(project, failed, "retry_task", cast["carol"])
    with pytest.raises(NotFound):
        commands.issue_for_task(project, failed, "retry_task", cast["mallory"])
    assert Command.objects.count() == 0


def test_a_denied_action_leaves_an_audit_entry(project, cast, failed):
    with pytest.raises(PermissionDenied):
        commands.issue_for_task(project, failed, "cancel_task", cast["carol"])
    entry = Entry.objects.filter(outcome="denied").get()
    assert (entry.actor, entry.action, entry.target) == ("carol@example.com", "task.cancel_task", "task:celery:t1")


@pytest.mark.parametrize(
    ("change", "action", "words"),
    [
        ({"replayable": False, "replay_reason": "the arguments are redacted"}, "retry_task", "redacted"),
        ({"replayable": None}, "retry_task", "not captured"),
        ({"state": "started"}, "retry_task", "not ended"),
        ({}, "cancel_task", "ended already"),
    ],
)
def test_what_cannot_be_done_says_why(project, cast, failed, change, action, words):
    for name, value in change.items():
        setattr(failed, name, value)
    with pytest.raises(Conflict, match=words):
        commands.issue_for_task(project, failed, action, cast["bob"])


def test_without_a_connected_agent_nothing_is_promised(project, cast, failed, online):
    agents.disconnected(project.id, "session-1")
    with pytest.raises(Conflict, match="No connected agent"):
        commands.issue_for_task(project, failed, "retry_task", cast["bob"])


def test_an_unknown_action_is_refused(project, cast, failed):
    with pytest.raises(InvalidInput):
        commands.issue_for_task(project, failed, "explode", cast["alice"])


def test_a_command_nobody_takes_expires_and_one_without_result_is_unknown(project, cast, failed, online):
    never = commands.issue_for_task(project, failed, "retry_task", cast["bob"])
    Command.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    lost = commands.issue_for_task(project, failed, "retry_task", cast["bob"])
    assert len(commands.claim(online.agent_id, "session-1", ABLE)) == 1
    Command.objects.filter(id=lost.id).update(sent_at=timezone.now() - timedelta(minutes=10))
    assert commands.expire() == 2
    states = dict(Command.objects.values_list("id", "state"))
    assert (states[never.id], states[lost.id]) == ("expired", "unknown")
    late = CommandResultFrame(id=str(lost.id), status="failed", error="too late")
    assert commands.complete(online.agent_id, "web", late), "a late result is still the truth"
    assert Command.objects.get(id=lost.id).state == "failed"


def test_offers_are_those_of_the_registry(project, cast, failed):
    from brain.permissions import grants

    offers = {offer.action: offer for offer in commands.offers(failed, grants(cast["bob"], project))}
    assert set(offers) == {"retry_task", "cancel_task"}
    assert offers["retry_task"].available
    assert offers["cancel_task"].reason == "It has ended already."
    assert all("role" in offer.reason for offer in commands.offers(failed, grants(cast["carol"], project)))


@pytest.mark.storage
@pytest.mark.parametrize("result", [{"text": "a\x00b\ud800"}, {"x": float("inf")}, {"n": 10**5000}, None])
def test_an_answer_that_cannot_be_stored_as_it_is_does_not_cost_the_outcome(project, cast, failed, online, result):
    command = commands.issue_for_task(project, failed, "retry_task", cast["bob"])
    commands.claim(online.agent_id, "session-1", ABLE)
    frame = CommandResultFrame(id=str(command.id), status="failed", result=result, error="no\x00t")
    assert commands.complete(online.agent_id, "web", frame)
    command.refresh_from_db()
    assert (command.state, command.error) == ("failed", "no␀t")


def test_a_cancelled_task_that_waits_is_not_offered_to_be_cancelled_again(project, cast, failed, online):
    failed.state = "received"
    command = commands.issue_for_task(project, failed, "cancel_task", cast["bob"])
    commands.claim(online.agent_id, "session-1", ABLE)
    assert commands.complete(online.agent_id, "web", CommandResultFrame(id=str(command.id), status="success"))
    with pytest.raises(Conflict, match="Cancelled already"):
        commands.issue_for_task(project, failed, "cancel_task", cast["bob"])
