"""An owner's policy from end to end: a real brain, a real agent, and a page that says what the owner does not allow."""

from __future__ import annotations

import re
from typing import Any

import pytest
from z4j_bare import install_agent
from z4j_core.actions import Command
from z4j_core.adapters import EngineAdapter, Sink

from tests.brainprocess import EMAIL, PASSWORD, BrainProcess, eventually, running_brain
from tests.conftest import life
from tests.webclient import WebClient
from tests.wire.peer import Peer

REASON = "Z4J_POLICY_DENY_TASKS denies the task 'billing.charge'"


class Engine(EngineAdapter):
    """Writes down which tasks it is made to run."""

    name = "celery"

    def __init__(self) -> None:
        self.ran: list[str] = []

    def connect(self, sink: Sink) -> None:
        """Watch nothing."""

    def disconnect(self) -> None:
        """Watch nothing."""

    def knows(self, kind: str, name: str) -> bool:
        """Know both tasks, and their queue."""
        return name in ("shop.pay", "billing.charge", "mail")

    def _retry_task(self, command: Command) -> dict[str, Any]:
        self.ran.append(command.parameters["task_name"])
        return {"task_id": "again"}


@pytest.fixture
def brain():
    """A brain of its own."""
    with running_brain() as process:
        yield process


def force(brain: BrainProcess, task_id: str, name: str) -> None:
    """Write a command as a brain would that does not care what the owner announced."""
    brain.manage(
        "shell", "-v0", "-c",
        "from datetime import timedelta; from django.utils import timezone; from brain.models import *; "
        "agent = Agent.objects.get(name='web'); "
        "Command.objects.create(project=agent.project, agent=agent, action='retry_task', engine='celery', "
        f"target_type='task', target_id='celery:{task_id}', issued_by_label='thief', "
        f"parameters={{'task_id': '{task_id}', 'engine': 'celery', 'task_name': '{name}', 'queue': 'mail', "
        "'override_args': [], 'override_kwargs': {}}, expires_at=timezone.now() + timedelta(seconds=60))",
    )  # fmt: skip


async def test_a_denied_retry_is_not_offered_and_the_agent_refuses_it_all_the_same(brain, tmp_path):
    credential = brain.mint("web")
    async with Peer(brain.ws_url, credential) as peer:
        await peer.deliver(life("b1", outcome="failed", name="billing.charge"))
        await peer.deliver(life("s1", outcome="failed"))
    engine = Engine()
    runtime = install_agent(
        engines=[engine], brain_url=brain.url, token=credential["token"], buffer_path=str(tmp_path), agent_name="web-1",
        hmac_secret=credential["hmac_secret"], policy_deny_tasks=["billing.*"],
    )  # fmt: skip
    try:
        assert runtime.wait_connected(20)
        told = "list(AgentProcess.objects.exclude(policy=None).values_list('policy', flat=True))"
        assert eventually(lambda: brain.query(told)) == [{"mode": "operate", "deny_tasks": ["billing.*"]}]
        pages = dict(brain.query("[list(row) for row in Task.objects.values_list('task_id', 'pk')]"))
        web = WebClient(brain.url)
        web.sign_in(EMAIL, PASSWORD)
        denied, allowed = (web.get(f"/p/default/tasks/{pages[task_id]}/") for task_id in ("b1", "s1"))
        assert re.search(r'id="do-retry_task"[^>]*disabled', denied)
        assert f"Refused by the policy of agent web-1: {REASON}." in denied.replace("&#x27;", "'")
        assert re.search(r'id="do-retry_task"', allowed)
        assert not re.search(r'id="do-retry_task"[^>]*disabled', allowed)
        force(brain, "b1", "billing.charge")
        force(brain, "s1", "shop.pay")
        states = "[list(row) for row in Command.objects.order_by('target_id').values_list('state', 'error')]"
        ended = eventually(lambda: (rows := brain.query(states))[1][0] == "succeeded" and rows, interval=0.5)
        assert ended == [["failed", REASON], ["succeeded", ""]]
        assert engine.ran == ["shop.pay"]
        assert REASON in web.get(f"/p/default/tasks/{pages['b1']}/").replace("&#x27;", "'")
    finally:
        runtime.stop(1)
