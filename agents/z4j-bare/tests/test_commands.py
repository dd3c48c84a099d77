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
    return brain.command("retry_task", engine="toy", task_id=task_id, **more)


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
        frame = CommandFrame(id="c1", action="retry_task", parameters={"engine": "toy", "task_id": "slow"})
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
        result = brain.command("retry_task", engine="toy", task_id="slow", timeout_seconds=1)
        engine.gate.set()
        assert (result.status, result.result) == ("failed", {"outcome": "unknown"})
        assert "outcome unknown" in result.error

    def test_the_claim_token_is_echoed(self, brain: Brain) -> None:
        parameters = {"engine": "toy", "task_id": "t1"}
        brain.send(CommandFrame(id="c9", action="retry_task", parameters=parameters, delivery_claim_token="claim"))
        frames = until(
            lambda: [f for kind in ("command_ack", "command_result") for f in brain.frames(kind) if f.id == "c9"][1:]
        )
        assert {frame.delivery_claim_token for frame in frames} == {"claim"}
