"""Fixtures of the dashboard's tests: tasks and processes as rows, browsers that are signed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from brain.models import AgentProcess, Project, Queue, Task, TaskName
from brain.states import TERMINAL_STATES

XSS = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture
def make_task(project: Project) -> Callable[..., Task]:
    """Return a factory of task rows of project ``shop``."""

    def make(state: str = "succeeded", *, age: float = 0.0, **fields: Any) -> Task:
        moment = timezone.now() - timedelta(seconds=age)
        values = {
            "project": project,
            "engine": "celery",
            "task_id": str(uuid4()),
            "name": "shop.pay",
            "queue": "mail",
            "created_at": moment,
            "updated_at": moment,
            "args": "[1]",
            "kwargs": "{}",
            "replay_quality": 2,
            "replayable": True,
            "state": state,
            "finished_at": moment if state in TERMINAL_STATES else None,
            **fields,
        }
        task = Task.objects.create(**values)
        for model, name in ((TaskName, task.name), (Queue, task.queue)):
            if name:
                model.objects.get_or_create(project=task.project, engine=task.engine, name=name)
        return task

    return make


@pytest.fixture
def connected(agent: Any) -> AgentProcess:
    """A process of the agent that is online and can retry and cancel."""
    return AgentProcess.objects.create(
        agent=agent.agent,
        project=agent.agent.project,
        worker_id="w1",
        session_id="s1",
        name="web-1",
        host="web-1.example.com",
        engines=["celery"],
        capabilities={"celery": ["retry_task", "cancel_task"]},
    )


@pytest.fixture
def browse(cast: Any) -> Callable[[str], Client]:
    """Return a browser in which a person of the cast is signed in."""

    def sign_in(name: str) -> Client:
        client = Client()
        client.force_login(cast[name])
        return client

    return sign_in


@pytest.fixture
def alice(browse: Callable[[str], Client]) -> Client:
    """The browser of the project's admin."""
    return browse("alice")
