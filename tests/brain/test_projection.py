"""The fold: any order, any repetition, any batching of a task's events gives the same facts."""

from __future__ import annotations

import functools
import itertools
import json
import random
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from brain.ingest.told import Told, read
from brain.projection import Facts, absorb, contributions, difference, join, of_event
from brain.states import KIND_STATE, TaskState

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
KINDS = sorted(KIND_STATE)


def told(**data) -> Told:
    """Return what an event with these data tells."""
    return read(json.dumps(data, default=str).encode())


texts = st.sampled_from([None, "", "a", "bb", "ab", "<unknown:1>"])
times = st.one_of(st.none(), st.integers(0, 600).map(lambda s: START + timedelta(seconds=s)))
tellings = st.builds(
    told,
    task_name=texts,
    queue=texts,
    worker=texts,
    attempt=st.integers(0, 3),
    priority=st.one_of(st.none(), st.integers(0, 9)),
    eta=times,
    args=st.sampled_from([None, [], [1], "(…)"]),
    kwargs=st.sampled_from([None, {}, {"a": 1}]),
    replayable=st.sampled_from([None, True, False]),
    replay_reason=texts,
    root_task_id=texts,
    retry_of=texts,
    runtime_ms=st.one_of(st.none(), st.integers(0, 10_000)),
    result=st.sampled_from([None, "x", 1, [2]]),
    exception=texts,
    exception_message=texts,
    traceback=texts,
)
events = st.tuples(st.sampled_from(KINDS), st.integers(0, 600), tellings)


def facts_of(one) -> Facts:
    kind, second, telling = one
    return of_event(kind, START + timedelta(seconds=second), telling)


def fold(items) -> Facts:
    return functools.reduce(join, items)


@given(st.lists(events, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=600, deadline=None)
def test_any_order_repetition_and_batching_gives_the_same_facts(history, rng: random.Random):
    singles = [facts_of(one) for one in history]
    expected = fold(singles)
    again = singles + [rng.choice(singles) for _ in range(len(singles))]
    rng.shuffle(again)
    cut = rng.randrange(1, len(again) + 1)
    batches = [batch for batch in (again[:cut], again[cut:]) if batch]
    assert fold([fold(batch) for batch in batches]) == expected
    assert join(expected, expected) == expected


@given(st.lists(events, max_size=6), events)
@settings(max_examples=600, deadline=None)
def test_to_absorb_an_event_is_to_join_what_it_tells(history, one):
    facts = fold([Facts(), *(facts_of(each) for each in history)])
    expected = join(facts, facts_of(one))
    kind, second, telling = one
    absorb(facts, kind, START + timedelta(seconds=second), telling)
    assert facts == expected


@given(st.lists(events, min_size=1, max_size=10), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_counters_moved_by_differences_equal_a_recount(history, rng: random.Random):
    singles = [facts_of(one) for one in history]
    rng.shuffle(singles)
    totals: dict = {}
    known: Facts | None = None
    for single in singles:
        new = single if known is None else join(known, single)
        for (minute, measure, *rest), count in difference(known, new, START).items():
            key = (measure, *rest) if measure == "retried" else (minute, measure, *rest)
            totals[key] = totals.get(key, 0) + count
        known = new
    assert known is not None
    expected = dict(contributions(known))
    retried = {key: count for key, count in totals.items() if key[0] == "retried"}
    assert {key: count for key, count in totals.items() if count and key not in retried} == expected
    assert sum(retried.values()) == known.retries


def test_all_permutations_of_a_life_with_a_retry_agree():
    history = [
        ("task.sent", 0, told(task_name="shop.pay", args=[1], kwargs={})),
        ("task.received", 1, told(task_name="shop.pay", queue="mail")),
        ("task.started", 2, told(task_name="<unknown:x>", worker="w1")),
        ("task.retried", 3, told(traceback="tb", reason="later", exception="OSError")),
        ("task.received", 3, told(attempt=1)),
        ("task.started", 9, told(attempt=1, worker="w2")),
        ("task.succeeded", 10, told(attempt=1, result="1", runtime_ms=900)),
    ]
    singles = [facts_of(one) for one in history]
    results = {repr(fold(order)) for order in itertools.permutations(singles)}
    assert len(results) == 1
    final = fold(singles)
    assert (final.state, final.attempt, final.retries, final.worker) == (TaskState.SUCCEEDED, 1, 1, "w2")
    assert final.error == ("", "", ""), "the error of an attempt that was retried belongs to that attempt"


def test_waiting_for_another_attempt_is_shown_as_retry():
    waiting = fold([facts_of(("task.started", 1, told())), facts_of(("task.sent", 2, told(attempt=1)))])
    assert waiting.state is TaskState.RETRY
    assert facts_of(("task.received", 2, told())).state is TaskState.RECEIVED


def test_wait_counts_from_the_eta_when_there_is_one():
    facts = fold(
        [
            facts_of(("task.sent", 0, told(eta=START + timedelta(seconds=60)))),
            facts_of(("task.started", 61, told())),
        ]
    )
    assert facts.wait_ms == 1000
