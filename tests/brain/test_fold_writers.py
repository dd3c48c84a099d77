"""Two brains write the same tasks at once into one PostgreSQL: no deadlock, and the rows of one brain."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections import Counter
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum

from brain import tokens
from brain.ingest import Batch, Committer, Source
from brain.ingest.postgresql import PostgreSQL
from brain.ingest.rows import DERIVED_COLUMNS, FACT_COLUMNS
from brain.models import Agent, Event, MetricMinute, Project, Quarantine, Task, TaskName
from tests.conftest import life

pytestmark = [
    pytest.mark.storage,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer"),
]

NOW = datetime.now(UTC).replace(microsecond=0)
TASKS = 120
COLUMNS = ("task_id", *FACT_COLUMNS, *DERIVED_COLUMNS)


@pytest.fixture
def history() -> list[dict[str, Any]]:
    """The events of many tasks: a first attempt that fails and is retried now and then, and the end."""
    events: list[dict[str, Any]] = []
    for number in range(TASKS):
        name, outcome = f"shop.n{number % 3}", "failed" if number % 4 == 0 else "succeeded"
        first = life(f"t{number}", at=number % 50, outcome=outcome, name=name)
        if number % 3 == 0:
            second = life(f"t{number}", at=number % 50 + 70, name=name)
            for event in second:
                event["data"] = {**event["data"], "attempt": 1, "worker": f"w{number % 5}"}
            first[-1] = {**first[-1], "kind": "task.retried"}
            first += second[1:]
        events += first
    return events


def source(slug: str) -> Source:
    """Make a project with one agent."""
    project = Project.objects.create(slug=slug, name=slug)
    return Source(project.id, tokens.mint(project, "web", by="test").agent.id)


def groups(source: Source, events: list[dict[str, Any]], dice: random.Random) -> list[list[Batch]]:
    """Cut shuffled events into groups of batches of random sizes."""
    left = events[:]
    dice.shuffle(left)
    made = []
    while left:
        group = []
        for _ in range(dice.randint(1, 4)):
            size = dice.randint(1, 30)
            part, left = left[:size], left[size:]
            group.append(Batch(source, 30, json.dumps({"events": part}).encode(), NOW))
        made.append(group)
    return made


def state_of(source: Source) -> dict[str, Any]:
    """Return everything of a project that must not depend on who wrote it when."""
    counters = MetricMinute.objects.filter(project=source.project_id)
    key = ("minute", "measure", "engine", "queue", "name", "bucket", "count")
    return {
        "tasks": sorted(map(repr, Task.objects.filter(project=source.project_id).values_list(*COLUMNS))),
        "events": Event.objects.filter(project=source.project_id).count(),
        "visible": Agent.objects.get(id=source.agent_id).visible,
        "counters": set(counters.exclude(measure="retried").exclude(count=0).values_list(*key)),
        "retried": counters.filter(measure="retried").aggregate(total=Sum("count"))["total"],
        "names": sorted(TaskName.objects.filter(project=source.project_id).values_list("name", flat=True)),
    }


def write_at_once(streams: list[list[list[Batch]]]) -> list[BaseException]:
    """Write each stream by a brain of its own, group by group at the same moment; return what went wrong."""
    failures: list[BaseException] = []
    rounds = threading.Barrier(len(streams))

    def brain(stream: list[list[Batch]]) -> None:
        committer = Committer(clock=lambda: NOW)
        try:
            for group in stream:
                rounds.wait(30)
                committer.commit(group)
        except BaseException as error:
            failures.append(error)
            rounds.abort()
        finally:
            connection.close()

    threads = [threading.Thread(target=brain, args=[stream]) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return failures


@pytest.mark.parametrize("brains", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_brains_that_write_the_same_tasks_at_once_write_the_rows_of_one(history, brains, seed, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "z4j")
    dice = random.Random(seed)
    alone, shared = source("alone"), source("shared")
    one = Committer(clock=lambda: NOW)
    for group in groups(alone, history, dice):
        one.commit(group)

    changed: Counter[str] = Counter()
    upsert = PostgreSQL.upsert_tasks

    def upsert_tasks(self, cursor, rows, *, certain):
        left = upsert(self, cursor, rows, certain=certain)
        changed["by another writer"] += len(left)
        return left

    monkeypatch.setattr(PostgreSQL, "upsert_tasks", upsert_tasks)
    # Every brain writes every event, as after a cut that lost all acknowledgements.
    streams = [groups(shared, history, dice) for _ in range(brains)]
    rounds = min(len(stream) for stream in streams)
    streams = [[*stream[: rounds - 1], [*chain(*stream[rounds - 1 :])]] for stream in streams]
    assert write_at_once(streams) == []
    assert state_of(shared) == state_of(alone)
    assert state_of(alone)["events"] == len(history)
    assert len(state_of(alone)["tasks"]) == TASKS
    assert changed["by another writer"] > 0, "they did meet"
    assert [record.getMessage() for record in caplog.records if record.name == "z4j.ingest"] == []
    assert not Quarantine.objects.exists()
