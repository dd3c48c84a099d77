"""The page of a task."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.urls import reverse

from audit.record import record
from brain.event_ids import floor
from brain.models import Command, Event, Task
from dashboard import documents, timeline

pytestmark = pytest.mark.django_db
BIG = 12345678901234567890123


def page(client, task: Task) -> str:
    return client.get(reverse("task", args=["shop", task.pk])).text


@pytest.fixture
def tell(agent):
    """Return a factory of events."""

    def make(task: Task, kind: str, at: float, attempt: int = 0, worker: str = "w1", **payload: object) -> Event:
        moment = task.created_at + timedelta(seconds=at)
        return Event.objects.create(
            id=UUID(int=floor(moment).int + uuid4().int % 2**64), project=task.project, agent=agent.agent,
            engine=task.engine, kind=f"task.{kind}", worker=worker,
            task_id=task.task_id, occurred_at=moment, received_at=moment,
            payload=json.dumps({"attempt": attempt, **payload}),
        )  # fmt: skip

    return make


def test_big_integers_and_decimals_survive(alice, make_task, tell):
    task = make_task(args=f"[{BIG}, 0.10]", result=f'{{"id": {BIG}1}}')
    tell(task, "sent", 0, big=BIG + 2)
    text = page(alice, task)
    for number in (f"{BIG}", "0.10", f"{BIG}1", f"{BIG + 2}"):
        assert f">{number}<" in text


def test_redacted_values_and_why_there_is_no_replay(alice, make_task, connected):
    text = page(
        alice, make_task(args='["[redacted:key]"]', replayable=False, replay_reason="the arguments are redacted")
    )
    assert ">[redacted:key]</mark>" in text
    assert "Cannot be replayed: the arguments are redacted." in text
    assert re.search(r'id="do-retry_task"[^>]*disabled', text)


def test_events_are_in_their_true_order_whatever_the_clocks_say(alice, make_task, tell):
    task = make_task("failed")
    tell(task, "failed", 1, attempt=1)
    tell(task, "started", 9, attempt=1)
    tell(task, "retried", 3)
    tell(task, "started", 5)
    tell(task, "sent", 7)
    kinds = re.findall(r"(task\.[a-z]+)</span><span class=\"muted\">attempt (\d)", page(alice, task))
    assert kinds == [
        ("task.sent", "1"), ("task.started", "1"), ("task.retried", "1"), ("task.started", "2"), ("task.failed", "2"),
    ]  # fmt: skip


def test_attempts_follow_from_the_events(make_task, tell):
    task = make_task("failed")
    events = [
        tell(task, "sent", 0),
        tell(task, "started", 1, worker="w1"),
        tell(task, "retried", 2, worker="w1", exception="TimeoutError", exception_message="slow"),
        tell(task, "started", 5, attempt=1, worker="w1"),
        tell(task, "started", 9, attempt=1, worker="w2"),
        tell(task, "failed", 12, attempt=1, worker="w2", exception="ValueError"),
    ]
    first, second = timeline.attempts(list(reversed(events)))
    assert (first.state, first.workers, first.error, first.run_ms) == ("retry", ["w1"], "TimeoutError: slow", 1000)
    assert (second.state, second.workers, second.started_twice) == ("failed", ["w1", "w2"], True)


def test_an_event_with_an_odd_payload_breaks_nothing(alice, make_task, tell):
    task = make_task()
    event = tell(task, "sent", 0)
    for payload in ([1], "text", {"attempt": "two"}, {"attempt": True}, {"attempt": -4}, None):
        Event.objects.filter(id=event.id).update(payload=json.dumps(payload))
        assert alice.get(reverse("task", args=["shop", task.pk])).status_code == 200


def test_executed_twice_is_said(alice, make_task):
    assert "Executed twice" in page(alice, make_task(executed_twice=True))
    assert "Executed twice" not in page(alice, make_task())


def test_relatives_are_linked_when_they_are_known(alice, make_task):
    parent = make_task(name="shop.parent")
    text = page(alice, make_task(parent_task_id=parent.task_id, root_task_id="unseen", retry_of=parent.task_id))
    assert text.count(f'href="{reverse("task", args=["shop", parent.pk])}"') == 2
    assert "not seen here" in text


def command(task: Task, agent, **fields: object) -> Command:
    return Command.objects.create(
        **{
            "project": task.project, "agent": agent.agent, "action": "retry_task", "engine": task.engine,
            "target_type": "task", "target_id": f"{task.engine}:{task.task_id}", "issued_by_label": "bob@example.com",
            "expires_at": task.created_at, **fields,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    "state", ["pending", "sent", "acknowledged", "succeeded", "failed", "refused", "expired", "unknown"]
)
def test_commands_tell_their_true_outcome(alice, make_task, agent, state):
    task = make_task("failed")
    new = make_task(name="shop.again")
    command(task, agent, state=state, error="the reason", result={"verified": "published", "task_id": new.task_id})
    text = page(alice, task)
    assert f'data-action="retry_task" data-state="{state}"' in text
    assert "Verified: published" in text
    assert "the reason" in text
    assert reverse("task", args=["shop", new.pk]) in text


def test_the_audit_log_is_for_those_who_may_read_it(browse, make_task):
    task = make_task()
    record(
        chain_id=task.project_id,
        actor="bob@example.com",
        action="task.retry_task",
        target=f"task:celery:{task.task_id}",
    )
    assert "task.retry_task" in page(browse("alice"), task)
    for person in ("bob", "carol"):
        assert 'id="audit"' not in page(browse(person), task)


def test_an_open_page_is_sent_again_only_when_something_changed(alice, make_task, agent):
    task = make_task("failed")
    url = re.search(r'id="task-body"[^>]*hx-get="([^"]+)"', page(alice, task))[1]
    assert alice.get(url).status_code == 204
    command(task, agent)
    answer = alice.get(url)
    assert answer.status_code == 200
    assert "<html" not in answer.text
    again = re.search(r'hx-get="([^"]+)"', answer.text)[1]
    assert alice.get(again).status_code == 204
    Task.objects.filter(pk=task.pk).update(state="succeeded", revision=9)
    assert 'data-state="succeeded"' in alice.get(again).text


def test_a_task_costs_a_bounded_number_of_queries(alice, make_task, agent, tell, django_assert_max_num_queries):
    task = make_task("failed", parent_task_id="p", root_task_id="r")
    for index in range(20):
        tell(task, "started", index)
        command(task, agent, result={"task_id": f"t{index}"})
    with django_assert_max_num_queries(15):
        page(alice, task)


@pytest.mark.parametrize("payload", ['{"n": %s, "attempt": 2}' % ("9" * 5000), '{"attempt": %s}' % ("9" * 5000)])
def test_a_number_too_long_for_python_breaks_no_page(alice, make_task, tell, payload):
    task = make_task(args=f"[{'7' * 5000}]", result='{"n": ' + "8" * 5000 + "}")
    event = tell(task, "sent", 0)
    Event.objects.filter(id=event.id).update(payload=payload)
    text = page(alice, task)
    for digit in "789":
        assert digit * 5000 in text
    assert ("attempt 3" in text) == ('"n"' in payload)


@pytest.mark.parametrize(
    "args", ["[" + '"' + "a" * 1_000_000 + '"]', "b" * 1_000_000, '["' + '", "'.join(["cc" * 500] * 1000) + '"]']
)
def test_a_huge_text_is_cut_on_the_page_and_whole_for_who_copies_it(alice, make_task, args):
    task = make_task("failed", args=args, exception="E", exception_message="m" * 300_000, traceback="t" * 300_000)
    text = page(alice, task)
    assert len(text) < 6 * documents.MAX_TEXT
    assert "more characters, copy for all" in text
    url = re.search(r'data-copy="" data-copy-url="([^"]+/text/args)"', text)[1]
    answer = alice.get(url)
    assert answer.text == args
    assert answer["Content-Type"].startswith("text/plain")
    assert alice.get(url.replace("args", "error")).text.endswith("m\n\n" + "t" * 300_000)
    assert alice.get(url.replace("args", "project")).status_code == 404


def test_a_short_text_is_copied_from_the_page(alice, make_task):
    text = page(alice, make_task(args="[1]"))
    assert 'data-copy="[1]"' in text
    assert "data-copy-url" not in text


@pytest.mark.parametrize(("message", "told"), [("revoked", "was revoked."), ("by hand", "was revoked: by hand.")])
def test_a_revoked_task_is_no_error(alice, make_task, message, told):
    text = page(alice, make_task("revoked", exception_message=message))
    assert 'id="error"' not in text
    assert told in text
    assert 'id="error"' in page(alice, make_task("failed", exception_message=message))


@pytest.mark.parametrize(
    ("state", "outcome", "said"),
    [
        ("received", "succeeded", "stays received here until a worker meets it"),
        ("started", "succeeded", "its worker was asked to end it"),
        ("received", "failed", ""),
        ("revoked", "succeeded", ""),
    ],
)
def test_a_cancelled_task_that_waits_is_said_to_be_cancelled(alice, make_task, agent, state, outcome, said):
    task = make_task(state)
    command(task, agent, action="cancel_task", state=outcome)
    text = page(alice, task)
    assert ('id="cancelled"' in text) == bool(said)
    assert said in text


def test_events_are_looked_for_in_the_time_of_the_task_and_on_request_in_all_days(alice, make_task, tell):
    task = make_task()
    near, far = tell(task, "started", 60), tell(task, "sent", -86_400)
    text = page(alice, task)
    assert f'id="event-{near.id}"' in text
    assert f'id="event-{far.id}"' not in text
    assert "Looked for from" in text
    text = alice.get(reverse("task", args=["shop", task.pk]), {"events": "all"}).text
    assert f'id="event-{far.id}"' in text
    assert "events=all" in re.search(r'id="task-body".*?hx-get="([^"]+)"', text)[1]
