"""A life as each engine really tells it: in any order, any repetition and any cut into batches it is one row."""

from __future__ import annotations

import copy
import functools
import json
import math
import random
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db.models import Sum

from brain.ingest import Batch, Committer, Source
from brain.ingest.decode import Incoming, decode_batch
from brain.ingest.rows import DERIVED_COLUMNS, FACT_COLUMNS, TASK_COLUMNS, task_row
from brain.models import Agent, Event, MetricMinute, Task
from brain.projection import Facts, absorb, difference, join

FILES = sorted((Path(__file__).parent / "histories").glob("*.json"))
ENGINES = ("arq", "celery", "dramatiq", "huey", "rq", "taskiq")
COLUMNS = (*FACT_COLUMNS, *DERIVED_COLUMNS)
RECEIVED = datetime.fromisoformat("2026-01-01T12:10:00+00:00")
each_history = pytest.mark.parametrize("history", FILES, ids=lambda path: path.stem, indirect=True)


@pytest.fixture
def history(request) -> dict[str, Any]:
    """The content of a file: events of the wire, and the row and counters they must become."""
    return json.loads(request.param.read_text())


def incoming(history: dict[str, Any]) -> list[Incoming]:
    """Return the events as the ingest decodes them."""
    payload = json.dumps({"events": history["events"]}).encode()
    accepted, rejected = decode_batch(payload, project_id=UUID(int=1), now=RECEIVED, retention_days=30)
    assert rejected == []
    assert len(accepted) in (7, 8)
    return accepted


def expected_row(history: dict[str, Any]) -> dict[str, Any]:
    """Return the row written out in the file, with its times as datetimes."""
    times = {column for column in COLUMNS if column.endswith("_at") or column == "eta"}
    return {
        column: datetime.fromisoformat(value) if column in times and value else value
        for column, value in history["row"].items()
    }


def row_of(facts: Facts) -> dict[str, Any]:
    """Return the row the brain would write."""
    row = dict(zip(TASK_COLUMNS, task_row(("p", "e", "t"), facts, RECEIVED, 1), strict=True))
    return {column: row[column] for column in COLUMNS}


def add(facts: Facts, event: Incoming) -> Facts:
    """Return the facts with those of one more event."""
    grown = copy.copy(facts)
    absorb(grown, event.kind, event.occurred_at, event.told)
    return grown


def ends(facts: Facts, left: list[Incoming]) -> Counter[str]:
    """Fold what is left in every order; return how many orders ended in which facts. Orders share their beginnings."""
    if not left:
        return Counter([repr(facts)])
    found: Counter[str] = Counter()
    for index, event in enumerate(left):
        found += ends(add(facts, event), left[:index] + left[index + 1 :])
    return found


def subsets(events: list[Incoming]) -> list[Facts]:
    """Return the facts of every subset; bit n of the index says whether event n is in it."""
    facts = [Facts()]
    for chosen in range(1, 1 << len(events)):
        last = chosen.bit_length() - 1
        facts.append(add(facts[chosen & ~(1 << last)], events[last]))
    return facts


def test_every_engine_has_a_history():
    assert tuple(path.stem for path in FILES) == ENGINES


@each_history
def test_every_permutation_ends_in_the_row_written_by_hand(history):
    events = incoming(history)
    found = ends(Facts(), events)
    assert sum(found.values()) == math.factorial(len(events))
    assert len(found) == 1
    facts = functools.reduce(add, events, Facts())
    assert found[repr(facts)] == math.factorial(len(events))
    assert row_of(facts) == expected_row(history)


@each_history
def test_what_came_already_changes_nothing_and_any_cut_gives_the_same(history):
    """The facts of any two sets of events, joined, are those of both together.

    With equal sets this is repetition, with overlapping ones a part that is sent again, with disjoint ones a cut into
    batches; any number of batches follows from two.
    """
    events = incoming(history)
    facts = subsets(events)
    for one in range(len(facts)):
        for other in range(len(facts)):
            assert join(facts[one], facts[other]) == facts[one | other], (bin(one), bin(other))
        for index, event in enumerate(events):
            assert add(facts[one], event) == facts[one | 1 << index], (bin(one), index)


@each_history
def test_the_counters_of_a_life_are_the_same_in_any_order(history):
    """Many random orders: each step moves the counters by the difference, and all end at the same sum."""
    dice = random.Random(history["engine"])
    events = incoming(history)
    for _ in range(200):
        order = events + dice.sample(events, dice.randrange(len(events)))
        dice.shuffle(order)
        counts: Counter[str] = Counter()
        known: Facts | None = None
        for event in order:
            new = add(known or Facts(), event)
            for (_, measure, *_), count in difference(known, new, RECEIVED).items():
                counts[measure] += count
            known = new
        assert {measure: count for measure, count in counts.items() if count} == history["counters"]


@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
@each_history
def test_the_row_in_the_database_is_the_one_written_by_hand(history, agent):
    """Shuffled, with repetitions, in batches and groups of any size, by writers that remember nothing of each other."""
    dice = random.Random(history["engine"])
    source = Source(agent.agent.project_id, agent.agent.id)
    order = history["events"] + dice.sample(history["events"], 5)
    dice.shuffle(order)
    committers = [Committer(clock=lambda: RECEIVED) for _ in range(2)]
    while order:
        group = []
        for _ in range(dice.randint(1, 3)):
            size = dice.randint(1, 3)
            part, order = order[:size], order[size:]
            group.append(Batch(source, 30, json.dumps({"events": part}).encode(), RECEIVED))
        dice.choice(committers).commit(group)
    (row,) = Task.objects.values(*COLUMNS)
    assert row == expected_row(history)
    assert Event.objects.count() == len(history["events"]) == Agent.objects.get().visible
    counted = MetricMinute.objects.values_list("measure").annotate(total=Sum("count"))
    assert {measure: total for measure, total in counted if total} == history["counters"]


def test_the_histories_hold_what_the_engines_do():
    """They are about retries, placeholders, starts without an end and tellers of the same; none may become tame."""
    seen: Counter[str] = Counter()
    for path in FILES:
        content = json.loads(path.read_text())
        events, row = content["events"], content["row"]
        kinds = Counter((event["kind"], event["data"].get("attempt", 0)) for event in events)
        seen["retried"] += row["retries"] > 0
        seen["placeholder"] += any(event["data"].get("task_name", "").startswith("<unknown:") for event in events)
        seen["same kind twice"] += max(kinds.values()) > 1
        seen["nothing received"] += ("task.received", 0) not in kinds
        seen["executed twice"] += row["executed_twice"]
        retried = [event["occurred_at"] for event in events if event["kind"] == "task.retried"]
        following = [event["occurred_at"] for event in events if event["data"].get("attempt") == 1]
        seen["next before retried"] += bool(retried) and min(following) < retried[0]
    assert {name for name, count in seen.items() if count} == set(seen)
    assert len(seen) == 6
