"""Frames to rows, on whichever database the run uses (``make test`` runs this file on both)."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Sum
from django.utils import timezone

from brain.ingest import Batch, Committer, Source
from brain.ingest.rows import FACT_COLUMNS, facts_of
from brain.models import Agent, Event, MetricMinute, Quarantine, Queue, Task, TaskName, Worker
from brain.projection import contributions
from tests.conftest import NOW, event, life, payload

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]


def recount() -> dict[str, int]:
    """Count from the task table what the counters should say."""
    totals: dict[str, int] = {}
    for row in Task.objects.values_list(*FACT_COLUMNS):
        facts = facts_of(row)
        for (_, measure, _, _, _), count in contributions(facts).items():
            totals[measure] = totals.get(measure, 0) + count
        if facts.retries:
            totals["retried"] = totals.get("retried", 0) + facts.retries
    return totals


def counters() -> dict[str, int]:
    """Return the counters' totals."""
    rows = MetricMinute.objects.values_list("measure").annotate(total=Sum("count"))
    return {measure: total for measure, total in rows if total}


def test_a_life_becomes_one_task_row(ingest):
    ingest(life("t1"))
    task = Task.objects.get()
    assert (task.state, task.name, task.queue, task.worker) == ("succeeded", "shop.pay", "mail", "w1")
    assert (task.args, task.kwargs, task.replayable) == ("[1]", '{"a": 2}', True)
    assert (task.wait_ms, task.run_ms, task.result) == (2000, 500, "'ok'")
    assert task.published_at == NOW
    assert Event.objects.count() == 4
    assert counters() == recount() == {"published": 1, "started": 1, "succeeded": 1, "run": 1, "wait": 1}
    assert [row.name for row in TaskName.objects.all()] == ["shop.pay"]
    assert [row.name for row in Queue.objects.all()] == ["mail"]
    assert [row.name for row in Worker.objects.all()] == ["w1"]


def test_sending_everything_twice_shuffled_changes_nothing(ingest):
    events = [
        one for n in range(250) for one in life(f"t{n}", at=n % 7, outcome="failed" if n % 5 == 0 else "succeeded")
    ]
    doubled = events * 2
    random.Random(7).shuffle(doubled)
    for start in range(0, len(doubled), 97):
        ingest(doubled[start : start + 60], doubled[start + 60 : start + 97])
    assert Event.objects.count() == 1000
    assert Agent.objects.get().visible == 1000
    assert Task.objects.count() == 250
    assert Task.objects.filter(state="failed", result="").count() == 50
    assert counters() == recount()
    assert counters()["succeeded"] == 200


def test_a_retry_counts_once_and_the_latest_attempt_tells_the_state(ingest):
    events = [
        *life("t1")[:3],
        event("received", "t1", at=4, task_name="shop.pay", attempt=1, worker="w1"),
        event("retried", "t1", at=3.9, task_name="shop.pay", attempt=0, exception="OSError", reason="later"),
    ]
    ingest(events)
    task = Task.objects.get()
    assert (task.state, task.attempt, task.retries) == ("retry", 1, 1)
    ingest([event("started", "t1", at=5, attempt=1, worker="w2"), event("succeeded", "t1", at=6, attempt=1)])
    task.refresh_from_db()
    assert (task.state, task.attempt, task.worker, task.run_ms) == ("succeeded", 1, "w2", 1000)
    assert counters() == recount()
    assert counters()["retried"] == 1


def test_a_placeholder_never_replaces_a_name(ingest):
    ingest([event("received", "t1", task_name="shop.pay")])
    ingest([event("started", "t1", at=1, task_name="<unknown:abcdef12>")])
    assert Task.objects.get().name == "shop.pay"
    ingest([event("started", "t2", task_name="<unknown:abcdef12>")])
    ingest([event("received", "t2", task_name="shop.ship")])
    assert Task.objects.get(task_id="t2").name == "shop.ship"
    assert {row.name for row in TaskName.objects.all()} == {"shop.pay", "shop.ship"}


def test_two_starts_of_one_attempt_are_an_execution_too_many(ingest):
    ingest(life("t1"))
    assert not Task.objects.get().executed_twice
    ingest([event("started", "t1", at=60, attempt=0, worker="w2")])
    assert Task.objects.get().executed_twice


@pytest.mark.parametrize(
    "bad",
    [
        {"id": "x"},
        {"id": "", "kind": "task.sent", "engine": "celery", "occurred_at": NOW.isoformat()},
        {"id": "x", "kind": "task.sent", "engine": "celery", "occurred_at": "yesterday"},
        {"id": 7, "kind": "task.sent", "engine": "celery", "occurred_at": NOW.isoformat()},
        [],
        None,
    ],
)
def test_one_bad_event_costs_only_itself(ingest, bad):
    (batch,) = ingest([life("t1")[0], bad, life("t2")[0]])
    assert (batch.verdict.accepted, batch.verdict.rejected) == (2, 1)
    assert Task.objects.count() == 2
    quarantined = Quarantine.objects.get()
    assert quarantined.reason
    assert Agent.objects.get().visible == 2


def test_what_is_not_a_batch_is_quarantined_with_its_reason(ingest):
    (batch,) = ingest(b'{"events": 5}')
    assert batch.verdict.rejected == 1
    assert "events" in Quarantine.objects.get().reason
    (batch,) = ingest(b"\xff\xfe")
    assert "malformed" in Quarantine.objects.first().reason


def test_text_no_database_can_hold_is_replaced_and_the_event_kept(ingest):
    raw = payload([event("failed", "t1", task_name="a\x00b", exception_message="\ud800 half")])
    ingest(raw)
    task = Task.objects.get()
    assert task.name == "a␀b"
    assert task.exception_message == "� half"
    assert Quarantine.objects.count() == 0


NEIGHBOURS = pytest.mark.parametrize("neighbour", ["plain", "emoji \\ud83d\\ude00", "half \\ud800", "nul \\u0000"])


def between_neighbours(neighbour: str, data: str) -> bytes:
    """Return a batch of three, with ``data`` as the data of the one in the middle."""
    good = json.dumps(life("t1")[0]).replace("shop.pay", neighbour)
    wrong = json.dumps(event("sent", "t2", marker=1)).replace('{"marker": 1}', data)
    return f'{{"events": [{good}, {wrong}, {json.dumps(life("t3")[0])}]}}'.encode()


@NEIGHBOURS
def test_nesting_out_of_range_costs_only_its_event(ingest, neighbour):
    (batch,) = ingest(between_neighbours(neighbour, '{"x": ' + "[" * 40 + "]" * 40 + "}"))
    assert (batch.verdict.accepted, batch.verdict.rejected) == (2, 1)
    assert set(Task.objects.values_list("task_id", flat=True)) == {"t1", "t3"}
    assert Quarantine.objects.count() == 1


@NEIGHBOURS
@pytest.mark.parametrize("number", ["1e400", "1e200000", "9" * 5000, "-0.0", "1E+2"])
def test_numbers_no_reader_can_hold_are_kept_as_they_were_sent(ingest, number, neighbour):
    (batch,) = ingest(between_neighbours(neighbour, f'{{"x": {number}}}'))
    assert (batch.verdict.accepted, batch.verdict.rejected) == (3, 0)
    assert Event.objects.get(task_id="t2").payload == f'{{"x": {number}}}'


@pytest.mark.parametrize(
    ("number", "replayable"), [("1e400", False), ("9" * 5000, False), ("1e300", True), ("7", True)]
)
def test_arguments_that_could_not_be_sent_again_are_not_offered_for_it(ingest, number, replayable):
    sent = json.dumps(event("sent", "t1", args=["MARK"], replayable=True)).replace('"MARK"', number)
    ingest(f'{{"events": [{sent}]}}'.encode())
    task = Task.objects.get()
    assert task.replayable is replayable
    assert ("number" in task.replay_reason) is not replayable


def test_escaped_text_is_told_from_escapes(ingest):
    ingest(
        payload([event("failed", "t1", exception_message=r"a \u0000 typed, \\ud800 too", traceback="x\x00\\\ud800")])
    )
    task = Task.objects.get()
    assert task.exception_message == r"a \u0000 typed, \\ud800 too"
    assert task.traceback == "x␀\\�"


def test_wrong_types_inside_the_data_are_treated_as_absent(ingest):
    ingest([event("succeeded", "t1", task_name=5, queue="mail", runtime_ms="fast", attempt=None, result={"a": 2**70})])
    task = Task.objects.get()
    assert (task.name, task.queue, task.state) == ("", "mail", "succeeded")
    assert str(2**70) in task.result


def test_names_beyond_the_cap_stay_two_names(ingest):
    ingest([event("sent", "t1", task_name="x" * 300 + "1"), event("sent", "t2", task_name="x" * 300 + "2")])
    names = set(Task.objects.values_list("name", flat=True))
    assert len(names) == 2
    assert all(len(name) == 255 for name in names)


def test_a_clock_far_off_is_clamped_and_flagged_and_still_deduplicated(ingest):
    old = event("sent", "t1", at=-90 * 86400)
    future = event("sent", "t2", at=30 * 86400)
    ingest([old, future])
    ingest([old, future])
    assert Event.objects.count() == 2
    flags = dict(Event.objects.values_list("task_id", "flags"))
    assert flags == {"t1": "clock-behind", "t2": "clock-ahead"}
    assert Event.objects.between(NOW - timedelta(days=31), NOW + timedelta(days=7)).count() == 2
    assert Event.objects.get(task_id="t1").occurred_at == NOW - timedelta(days=90)
    created = Task.objects.values_list("created_at", flat=True)
    assert all(timedelta(0) <= timezone.now() - moment < timedelta(minutes=5) for moment in created)


def test_what_an_impossible_clock_told_changes_nothing_when_it_comes_again_later(agent):
    source = Source(agent.agent.project_id, agent.agent.id)
    committer = Committer()
    events = [one for at in (3605, -40 * 86400) for one in life(f"t{at}", at=at)]
    totals = None
    for received in (NOW, NOW + timedelta(seconds=40), NOW + timedelta(days=1)):
        committer.commit([Batch(source, 30, payload(events), received)])
        assert set(Task.objects.values_list("executed_twice", "run_ms")) == {(False, 500)}
        totals = totals or counters()
        assert counters() == recount() == totals


def test_two_contents_under_one_id_are_two_events(ingest):
    ingest([event("sent", f"t{n}", event_id="same") for n in range(3)])
    ingest([event("sent", "t3", event_id="same"), event("started", "t3", event_id="same")])
    assert Event.objects.count() == 5
    assert Task.objects.count() == 4


def test_an_event_of_an_unknown_kind_is_kept_and_changes_no_task(ingest):
    ingest([{**event("sent", "t1"), "kind": "task.pondered"}])
    assert Event.objects.get().kind == "task.pondered"
    assert Task.objects.count() == 0


def test_arguments_keep_exact_integers_and_say_whether_they_can_be_replayed(ingest):
    ingest([event("sent", "t1", args=[2**60 + 1], kwargs={}, replayable=True)])
    ingest([event("sent", "t2", args=["[redacted:password]"], kwargs={})])
    ingest([event("sent", "t3", args="(1, 2, ...)", kwargs={})])
    ingest([event("sent", "t4")])
    tasks = {task.task_id: task for task in Task.objects.all()}
    assert str(2**60 + 1) in tasks["t1"].args
    assert tasks["t1"].replayable is True
    assert (tasks["t2"].replayable, tasks["t2"].replay_reason) == (False, "the arguments are redacted")
    assert tasks["t3"].replayable is False
    assert tasks["t4"].replayable is None


def test_between_reads_the_window_only(ingest):
    ingest(life("t1"))
    assert Event.objects.between(NOW, NOW + timedelta(seconds=2)).count() == 2


def test_deep_nesting_costs_only_its_event(ingest):
    deep: dict = {}
    for _ in range(400):
        deep = {"a": deep}
    (batch,) = ingest([life("t1")[0], event("sent", "t2", note=deep), life("t3")[0]])
    assert (batch.verdict.accepted, batch.verdict.rejected) == (2, 1)
    assert "nested" in Quarantine.objects.get().reason


def test_what_the_database_refuses_is_found_event_by_event(ingest, monkeypatch):
    from django.db import DataError

    from brain.ingest.store import Store

    write = Store.write

    def refuse(store, group, now):
        if any(task_id == "bad" for prepared in group for _, _, task_id in prepared.told):
            raise DataError("no such thing")
        write(store, group, now)

    monkeypatch.setattr(Store, "write", refuse)
    first, second = ingest([*life("t1"), event("sent", "bad"), *life("t2")], life("t3"))
    assert (first.verdict.accepted, first.verdict.rejected) == (8, 1)
    assert (second.verdict.accepted, second.verdict.rejected) == (4, 0)
    quarantined = Quarantine.objects.get()
    assert "no such thing" in quarantined.reason
    assert Task.objects.count() == 3


def test_while_the_database_is_away_nothing_is_given_up(agent, monkeypatch):
    from django.db import OperationalError

    from brain.ingest.store import Store

    write, pauses = Store.write, []

    def sometimes(store, group, now):
        if len(pauses) < 3:
            raise OperationalError("the database is starting up")
        write(store, group, now)

    monkeypatch.setattr(Store, "write", sometimes)
    batch = Batch(Source(agent.agent.project_id, agent.agent.id), 30, payload(life("t1")), datetime.now(UTC))
    Committer(pause=pauses.append).commit([batch])
    assert len(pauses) == 3
    assert batch.verdict.accepted == 4
    assert Event.objects.count() == 4


def test_the_agents_own_sequence_number_is_kept(ingest):
    ingest([event("sent", "t1", _z4j={"epoch": "ab", "seq": 41})])
    assert Event.objects.get().seq == 41


@pytest.mark.parametrize(
    "odd", ["tab\there", "line\nbreak\r", "unit\x1fmark\x1e", "\x1e", "back\\slash", "\\N", "\\.", '"quoted"']
)
def test_control_characters_and_marks_of_the_copy_format_are_kept(ingest, odd):
    sent = event("failed", f"t{odd}", task_name=odd, traceback=odd, args=[odd], queue=odd)
    for _ in range(2):  # the second time through the staging tables
        ingest([sent])
    task = Task.objects.get()
    assert (task.task_id, task.name, task.traceback, task.queue) == (f"t{odd}", odd, odd, odd)
    assert json.loads(task.args) == [odd]
    stored = Event.objects.get()
    assert (stored.name, json.loads(stored.payload)) == (odd, sent["data"])
    ingest([event("started", f"t{odd}", at=1, worker=odd, attempt=1)])
    assert Task.objects.get().worker == odd


def test_pretty_printed_batches_are_taken_as_they_are(ingest):
    text = json.dumps({"events": life("t1")}, indent=2)
    ingest(text.replace("\n", "\r\n").encode())
    assert Task.objects.get().state == "succeeded"
    assert "\r\n" in Event.objects.order_by("id")[0].payload


def test_more_branches_than_anyone_needs_cost_only_their_event(ingest):
    (batch,) = ingest([life("t1")[0], event("sent", "t2", note=[[]] * 20_000), life("t3")[0]])
    assert (batch.verdict.accepted, batch.verdict.rejected) == (2, 1)
    assert "10000" in Quarantine.objects.get().reason
