from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from testbrain import Brain, until
from z4j_bare import AgentRuntime
from z4j_core.actions import Command
from z4j_core.adapters import EngineAdapter, Sink
from z4j_core.frames import CommandFrame

Install = Callable[..., AgentRuntime]


class Engine(EngineAdapter):
    name = "toy"

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gate = threading.Event()

    def connect(self, sink: Sink) -> None:
        self.sink = sink

    def disconnect(self) -> None:
        pass

    def health(self) -> dict[str, str]:
        return {"toy.broker_type": "none", "toy.broker_connected": "true"}

    def knows(self, kind: str, name: str) -> bool:
        return (kind, name) in (("task", "shop.pay"), ("task", "billing.charge"), ("queue", "mail"))

    def _retry_task(self, command: Command) -> dict[str, Any]:
        self.done.append(command.parameters["task_id"])
        match command.parameters["task_id"]:
            case "slow":
                self.gate.wait(10)
            case "broken":
                raise ValueError("inside")
        return {"task_id": "new"}


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def connected(brain: Brain, agent: Install, engine: Engine) -> AgentRuntime:
    runtime = agent(brain, engines=[engine])
    until(brain.live)
    return runtime


def retry(brain: Brain, task_id: str, **more: Any) -> Any:
    return brain.command("retry_task", **{"engine": "toy", "task_id": task_id, "task_name": "shop.pay", **more})


def parameters(task_id: str) -> dict[str, Any]:
    return {"engine": "toy", "task_id": task_id, "task_name": "shop.pay"}


@pytest.mark.usefixtures("connected")
class TestCommands:
    def test_capabilities_and_health_are_told(self, brain: Brain) -> None:
        assert brain.live()[0].hello.capabilities == {"toy": ["retry_task"]}
        assert until(lambda: brain.heartbeat_with("toy.broker_type")).adapter_health["toy.broker_connected"] == "true"

    def test_a_command_is_acknowledged_performed_and_answered(self, brain: Brain, engine: Engine) -> None:
        result = retry(brain, "t1")
        assert (result.status, result.result) == ("success", {"task_id": "new"})
        assert engine.done == ["t1"]

    def test_a_repeated_command_is_answered_and_not_repeated(self, brain: Brain, engine: Engine) -> None:
        retry(brain, "t1", identifier="c1")
        again = retry(brain, "t1", identifier="c1")
        assert (again.status, again.result) == ("success", {"task_id": "new", "deduplicated": True})
        assert engine.done == ["t1"]

    def test_it_is_remembered_over_a_connection(self, brain: Brain, engine: Engine) -> None:
        retry(brain, "t1", identifier="c1")
        brain.drop()
        until(lambda: len(brain.sessions) == 2 and brain.live())
        assert retry(brain, "t1", identifier="c1").result["deduplicated"] is True
        assert engine.done == ["t1"]

    def test_a_result_that_found_no_connection_is_sent_with_the_next(self, brain: Brain, engine: Engine) -> None:
        frame = CommandFrame(id="c1", action="retry_task", parameters=parameters("slow"))
        brain.send(frame)
        until(lambda: engine.done == ["slow"])
        brain.drop()
        engine.gate.set()
        until(lambda: [result for result in brain.frames("command_result") if result.id == "c1"])

    def test_failures_are_told(self, brain: Brain) -> None:
        assert retry(brain, "broken").error == "ValueError: inside"
        result = brain.command("cancel_task", engine="toy", task_id="t1")
        assert (result.status, result.error) == ("failed", "toy cannot perform 'cancel_task'")
        result = brain.command("retry_task", engine="celery", task_id="t1")
        assert (result.status, result.error) == ("failed", "this agent does not serve celery")

    def test_an_adapter_that_does_not_answer_leaves_the_outcome_unknown(self, brain: Brain, engine: Engine) -> None:
        result = retry(brain, "slow", timeout_seconds=1)
        engine.gate.set()
        assert (result.status, result.result) == ("failed", {"outcome": "unknown"})
        assert "outcome unknown" in result.error

    def test_the_claim_token_is_echoed(self, brain: Brain) -> None:
        frame = CommandFrame(id="c9", action="retry_task", parameters=parameters("t1"), delivery_claim_token="claim")
        brain.send(frame)
        frames = until(
            lambda: [f for kind in ("command_ack", "command_result") for f in brain.frames(kind) if f.id == "c9"][1:]
        )
        assert {frame.delivery_claim_token for frame in frames} == {"claim"}


class TestPolicy:
    def test_it_is_announced_and_what_it_never_allows_is_not_offered(
        self, brain: Brain, agent: Install, engine: Engine
    ) -> None:
        agent(brain, engines=[engine], policy="observe", policy_deny_tasks=["billing.*"])
        hello = until(brain.live)[0].hello
        assert hello.policy == {"mode": "observe", "deny_tasks": ["billing.*"]}
        assert hello.capabilities == {"toy": []}
        assert retry(brain, "t1").error == "Z4J_POLICY=observe allows no actions"
        assert engine.done == []

    def test_a_refusal_names_the_setting_and_is_remembered(self, brain: Brain, agent: Install, engine: Engine) -> None:
        agent(brain, engines=[engine], policy_deny_tasks=["billing.*"])
        until(brain.live)
        result = retry(brain, "t1", identifier="c1", task_name="billing.charge")
        assert (result.status, result.result) == ("failed", {"refused": True})
        assert result.error == "Z4J_POLICY_DENY_TASKS denies the task 'billing.charge'"
        again = retry(brain, "t1", identifier="c1")
        assert (again.status, again.result) == ("failed", {"refused": True, "deduplicated": True})
        assert engine.done == []
        assert retry(brain, "t1", identifier="c2").status == "success"

    def test_only_what_the_engine_knows_is_run(self, brain: Brain, agent: Install, engine: Engine) -> None:
        agent(brain, engines=[engine])
        until(brain.live)
        assert retry(brain, "t1", task_name="os.system").error == (
            "Z4J_POLICY=operate: the engine knows no task 'os.system'"
        )
        assert retry(brain, "t1", queue="other").error == "Z4J_POLICY=operate: the engine knows no queue 'other'"
        assert engine.done == []

    def test_it_is_remembered_over_a_restart(self, brain: Brain, agent: Install, engine: Engine) -> None:
        first = agent(brain, engines=[engine])
        until(brain.live)
        retry(brain, "t1", identifier="c1")
        first.stop(1)
        agent(brain, engines=[engine])
        until(lambda: len(brain.sessions) == 2 and brain.live())
        assert retry(brain, "t1", identifier="c1").result["deduplicated"] is True
        assert engine.done == ["t1"]

    def test_a_command_older_than_its_timeout_is_not_done(self, brain: Brain, agent: Install, engine: Engine) -> None:
        agent(brain, engines=[engine])
        session = until(brain.live)[0]
        brain.skew = -20.0
        assert "it was sent 20 s ago and had 5 s; nothing was done" in str(retry(brain, "t1", timeout_seconds=5).error)
        assert engine.done == []
        assert not session.closed
