"""Periodic jobs: each turn runs once however many brains there are; one failing job does not stop the others."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from z4j_core.frames import Hello

from brain import agents, housekeeping
from brain.models import AgentProcess, Job

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def registry(monkeypatch):
    """An empty registry."""
    empty: dict = {}
    monkeypatch.setattr(housekeeping, "REGISTRY", empty)
    return empty


def test_a_due_job_runs_once_among_many(registry):
    runs = []

    @housekeeping.job(every=3600)
    def tidy() -> None:
        runs.append(1)

    housekeeping.register_jobs()
    housekeeping.register_jobs()

    def turn(number: int) -> None:
        try:
            housekeeping.run_due(f"brain-{number}")
        finally:
            connection.close()

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 1
    assert housekeeping.run_due("again") == []


def test_a_failing_job_is_noted_and_the_next_one_runs(registry):
    runs = []

    @housekeeping.job(every=1)
    def broken() -> None:
        raise ValueError("no")

    @housekeeping.job(every=1)
    def fine() -> None:
        runs.append(1)

    housekeeping.register_jobs()
    assert housekeeping.run_due("me") == ["broken", "fine"]
    assert runs == [1]
    assert Job.objects.get(name="broken").last_error == "no"


def test_a_lease_that_ran_out_is_taken_over(registry):
    @housekeeping.job(every=1)
    def tidy() -> None:
        pass

    past = timezone.now() - timedelta(minutes=1)
    Job.objects.create(name="tidy", next_at=past, lease_until=past, owner="dead brain")
    assert housekeeping.run_due("me") == ["tidy"]


def test_a_silent_agent_goes_offline_and_a_late_heartbeat_does_not_make_it_so(agent):
    found = agents.authenticate(agent.token)
    for name, silence in (("late", 45), ("gone", 500)):
        agents.connected(found, Hello(id="h", worker_id=name), name, None)
        AgentProcess.objects.filter(worker_id=name).update(last_seen_at=timezone.now() - timedelta(seconds=silence))
    assert agents.sweep(housekeeping.SILENCE) == 1
    assert dict(AgentProcess.objects.values_list("worker_id", "state")) == {"late": "online", "gone": "offline"}
