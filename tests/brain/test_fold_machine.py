"""A state machine against the real SQL: whatever is delivered, repeated, forgotten, rows are the fold of the events."""

from __future__ import annotations

import itertools
import json
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Count, Sum
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from brain import retention, tokens
from brain.ingest import Batch, Committer, Source, memory
from brain.ingest.decode import decode_batch
from brain.ingest.memory import EventMemory, TaskMemory
from brain.ingest.postgresql import PostgreSQL
from brain.ingest.rows import DERIVED_COLUMNS, FACT_COLUMNS, TASK_COLUMNS, facts_of, task_row
from brain.ingest.sql import AlreadyThere
from brain.models import Agent, Event, MetricMinute, Project, Quarantine, Task, TaskName
from brain.projection import Facts, contributions, join, of_event
from brain.states import KIND_STATE
from tests.delivery.campaign import SOAK

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

NOW = datetime.now(UTC).replace(microsecond=0)
WRITERS = 2
#: Far beyond the retention of tasks, within that of events and counters.
LATER = NOW + timedelta(days=400)
COLUMNS = (*FACT_COLUMNS, *DERIVED_COLUMNS)

texts = st.sampled_from([None, "", "a", "bb", "ab"])
tellings = st.fixed_dictionaries(
    {},
    optional={
        "task_name": st.sampled_from(["shop.pay", "shop.ship", "<unknown:12345678>", ""]),
        "queue": texts,
        "worker": texts,
        "priority": st.integers(0, 9),
        "attempt": st.integers(0, 2),
        "eta": st.integers(0, 300).map(lambda second: (NOW + timedelta(seconds=second)).isoformat()),
        "args": st.sampled_from([None, [], [1], "(…)"]),
        "replayable": st.sampled_from([None, True, False]),
        "root_task_id": texts,
        "runtime_ms": st.integers(0, 10_000),
        "result": st.sampled_from([None, "x", 1, [2]]),
        "exception": texts,
        "reason": texts,
        "traceback": st.sampled_from([None, "one\n\\.\ntwo\r\n", 'a "quoted" \x1f\x1e line']),
    },
)
#: (task, kind, second, data); the first kinds come most, so that tasks begin and go on more often than they end.
events = st.tuples(
    st.integers(0, 7),
    st.sampled_from(["task.sent", "task.received", "task.started", "task.retried", *sorted(KIND_STATE)]),
    st.integers(0, 300),
    tellings,
)
#: Which of the events delivered so far are sent again; taken modulo their number.
again = st.lists(st.integers(0, 10_000), max_size=4)
batches = st.lists(st.tuples(st.integers(0, 1), st.lists(events, max_size=5), again), min_size=1, max_size=3)
writers = st.integers(0, WRITERS - 1)


class Brains(RuleBasedStateMachine):
    """Two writers on one database, and what their project must look like."""

    def __init__(self) -> None:
        super().__init__()
        self.project = Project.objects.create(
            slug=uuid.uuid4().hex,
            name="x",
            event_retention_days=3650,
            task_retention_days=90,
            metric_retention_days=3650,
        )
        self.sources = [
            Source(self.project.id, tokens.mint(self.project, name, by="test").agent.id) for name in ("web", "worker")
        ]
        self.writers = [Committer(clock=lambda: NOW) for _ in range(WRITERS)]
        self.numbers = itertools.count()
        self.sent: list[dict[str, Any]] = []
        self.facts: dict[str, Facts] = {}
        self.names: set[str] = set()
        #: What the counters held of tasks that retention took away.
        self.passed: Counter[tuple[Any, ...]] = Counter()
        self.passed_retries = 0

    @rule(writer=writers, group=batches)
    def deliver(self, writer: int, group: list[tuple[int, list[Any], list[int]]]) -> None:
        """A group of batches, each of one agent, with new events and some of those that came before."""
        put = []
        for agent, fresh, repeated in group:
            made = [self._event(*one) for one in fresh]
            part = made + [self.sent[index % len(self.sent)] for index in repeated if self.sent]
            self.sent += made
            put.append(Batch(self.sources[agent], 3650, json.dumps({"events": part}).encode(), NOW))
            self._expect(part)
        self.writers[writer].commit(put)
        assert sum(batch.verdict.rejected for batch in put) == 0

    @rule(writer=writers, task=st.integers(0, 7), kind=st.sampled_from(["task.sent", "task.received"]), data=tellings)
    def begin(self, writer: int, task: int, kind: str, data: dict[str, Any]) -> None:
        """One new event that looks like the beginning of a task, which the other writer may know already."""
        self.deliver(writer, [(0, [(task, kind, 0, {**data, "attempt": 0})], [])])

    @rule(first=writers, task=st.integers(0, 7), second=st.integers(0, 300), attempt=st.integers(0, 2))
    def in_turn(self, first: int, task: int, second: int, attempt: int) -> None:
        """Both write one life: the first goes on from what it remembers, which the other has changed meanwhile."""
        for writer, kind in ((first, "task.received"), (1 - first, "task.sent"), (first, "task.started")):
            self.deliver(writer, [(0, [(task, kind, second, {"attempt": attempt})], [])])

    @precondition(lambda self: self.sent)
    @rule(writer=writers, agent=st.integers(0, 1), every=st.integers(1, 3))
    def resend(self, writer: int, agent: int, every: int) -> None:
        """What an agent does whose acknowledgements were lost: a part of all, in order, in one batch."""
        part = self.sent[::every]
        self._expect(part)
        self.writers[writer].commit([Batch(self.sources[agent], 3650, json.dumps({"events": part}).encode(), NOW)])

    @rule(writer=writers)
    def restart(self, writer: int) -> None:
        """A brain that begins anew remembers nothing."""
        self.writers[writer] = Committer(clock=lambda: NOW)

    @precondition(lambda self: self.facts)
    @rule()
    def expire(self) -> None:
        """A long pause: both brains were restarted, and retention took all tasks away."""
        for facts in self.facts.values():
            self.passed += Counter(_counted(facts))
            self.passed_retries += facts.retries
        self.facts.clear()
        self.writers = [Committer(clock=lambda: NOW) for _ in range(WRITERS)]
        retention.remove_expired(LATER)
        assert not Task.objects.filter(project=self.project).exists()

    def _event(self, task: int, kind: str, second: int, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"e{next(self.numbers)}",
            "kind": kind,
            "engine": "celery",
            "task_id": f"t{task}",
            "occurred_at": (NOW + timedelta(seconds=second)).isoformat(),
            "data": data,
        }

    def _expect(self, part: list[dict[str, Any]]) -> None:
        payload = json.dumps({"events": part}).encode()
        accepted, _ = decode_batch(payload, project_id=self.project.id, now=NOW, retention_days=3650)
        assert len(accepted) == len(part)
        for event in accepted:
            told = of_event(event.kind, event.occurred_at, event.told)
            known = self.facts.get(event.task_id)
            self.facts[event.task_id] = told if known is None else join(known, told)
            if (event.told.task_name or "").startswith("shop."):
                self.names.add(str(event.told.task_name))

    @invariant()
    def rows_are_the_fold_of_all_events(self) -> None:
        """Facts and what follows from them, column by column."""
        stored = {}
        for task_id, *row in Task.objects.filter(project=self.project).values_list("task_id", *COLUMNS):
            assert facts_of(tuple(row[: len(FACT_COLUMNS)])) == self.facts[task_id], task_id
            stored[task_id] = tuple(row)
        places = [TASK_COLUMNS.index(column) for column in COLUMNS]
        for task_id, facts in self.facts.items():
            row = task_row(("", "", ""), facts, NOW, 1)
            assert stored[task_id] == tuple(row[place] for place in places), task_id

    @invariant()
    def counters_are_a_recount(self) -> None:
        """Each counter is the sum over all tasks; of retries only the total is, since names may come later."""
        expected, retries = Counter(self.passed), self.passed_retries
        for facts in self.facts.values():
            expected += Counter(_counted(facts))
            retries += facts.retries
        rows = MetricMinute.objects.filter(project=self.project)
        stored = rows.exclude(measure="retried").values_list("minute", "measure", "queue", "name", "bucket", "count")
        assert {tuple(key): count for *key, count in stored if count} == dict(expected)
        assert (rows.filter(measure="retried").aggregate(total=Sum("count"))["total"] or 0) == retries

    @invariant()
    def each_event_is_there_once_and_counted_once(self) -> None:
        """As many events as there are ids; each agent is credited with its own."""
        stored = Event.objects.filter(project=self.project)
        assert stored.count() == len(self.sent)
        by_agent = dict(stored.values_list("agent_id").annotate(Count("id")).values_list("agent_id", "id__count"))
        agents = Agent.objects.filter(project=self.project).values_list("id", "visible")
        assert {agent: visible for agent, visible in agents if visible} == by_agent
        assert set(TaskName.objects.filter(project=self.project).values_list("name", flat=True)) == self.names
        assert not Quarantine.objects.filter(project=self.project).exists()


def _counted(facts: Facts) -> dict[tuple[Any, ...], int]:
    return dict(contributions(facts))


@pytest.fixture
def ways(monkeypatch) -> Counter[str]:
    """Count the ways through the store that were taken. The real methods do the work."""
    taken: Counter[str] = Counter()
    insert, upsert = PostgreSQL.insert_events, PostgreSQL.upsert_tasks
    recall, wrong = TaskMemory.recall, EventMemory.wrong

    def insert_events(self, cursor, rows, *, certain):
        try:
            counts = insert(self, cursor, rows, certain=certain)
        except AlreadyThere:
            taken["an event taken for new was there"] += 1
            raise
        taken["events copied straight in"] += certain
        taken["events staged, some not new"] += not certain and sum(counts.values()) < len(rows)
        return counts

    def upsert_tasks(self, cursor, rows, *, certain):
        try:
            left = upsert(self, cursor, rows, certain=certain)
        except AlreadyThere:
            taken["a task taken for new was there"] += 1
            raise
        taken["tasks copied straight in"] += certain and any(row[TASK_COLUMNS.index("revision")] == 1 for row in rows)
        taken["tasks changed by the other writer"] += bool(left)
        return left

    def recalled(self, key):
        known = recall(self, key)
        taken["a task remembered"] += known is not None
        return known

    def doubted(self):
        taken["began to doubt"] += 1
        wrong(self)

    monkeypatch.setattr(PostgreSQL, "insert_events", insert_events)
    monkeypatch.setattr(PostgreSQL, "upsert_tasks", upsert_tasks)
    monkeypatch.setattr(TaskMemory, "recall", recalled)
    monkeypatch.setattr(EventMemory, "wrong", doubted)
    return taken


WAYS = {
    "events copied straight in",
    "an event taken for new was there",
    "events staged, some not new",
    "tasks copied straight in",
    "a task taken for new was there",
    "tasks changed by the other writer",
    "a task remembered",
    "began to doubt",
}


def test_any_deliveries_to_two_writers_give_the_rows_of_the_fold(ways, monkeypatch, record_property):
    # Small memories and short doubts, so that a short run gets to their ends and begins again.
    monkeypatch.setattr(memory, "MAX_EVENTS", 20)
    monkeypatch.setattr(memory, "MAX_TASKS", 3)
    monkeypatch.setattr(memory, "DOUBT", 2)
    run_state_machine_as_test(
        Brains,
        settings=settings(
            max_examples=1000 if SOAK else 40,
            stateful_step_count=30 if SOAK else 15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    if connection.vendor == "postgresql":
        assert set(+ways) == WAYS
        taken = ", ".join(f"{way}: {count}" for way, count in sorted(ways.items()))
        record_property("outcome", f"ways through the store: {taken}")


def test_a_remembered_task_whose_row_has_expired_is_written_again_whole(project, ways):
    """Its row lies between what was told since and all that was ever told."""
    machine = Brains()
    source = machine.sources[0]
    told: list[Facts] = []
    for kind in ("task.sent", "task.started", "task.succeeded"):
        event = machine._event(0, kind, len(told), {"task_name": "shop.pay"})
        payload = json.dumps({"events": [event]}).encode()
        accepted, _ = decode_batch(payload, project_id=machine.project.id, now=NOW, retention_days=3650)
        told.append(of_event(accepted[0].kind, accepted[0].occurred_at, accepted[0].told))
        machine.writers[0].commit([Batch(source, 3650, payload, NOW)])
        if kind == "task.started":
            retention.remove_expired(LATER)
            assert not Task.objects.filter(project=machine.project).exists()
    (row,) = Task.objects.filter(project=machine.project).values_list(*FACT_COLUMNS)
    facts, whole = facts_of(row), join(join(told[0], told[1]), told[2])
    assert join(facts, told[2]) == facts, "what came since is in it"
    assert join(whole, facts) == whole, "and nothing that was never told"
    if connection.vendor == "postgresql":
        assert facts == whole
        assert ways["a task remembered"] == 2
    assert Event.objects.filter(project=machine.project).count() == 3
