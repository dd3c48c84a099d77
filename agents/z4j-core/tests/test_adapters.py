from __future__ import annotations

from typing import Any

import pytest
from z4j_core.actions import Command, CommandResult
from z4j_core.adapters import EngineAdapter, Sink
from z4j_core.errors import ActionFailed, EngineUnavailable


class Retrier(EngineAdapter):
    name = "retrier"

    def connect(self, sink: Sink) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def _retry_task(self, command: Command) -> dict[str, Any]:
        match command.parameters["task_id"]:
            case "fails":
                raise ActionFailed("the broker is away")
            case "breaks":
                raise ZeroDivisionError("inside")
            case "interrupts":
                raise KeyboardInterrupt
        return {"task_id": "new"}


def command(action: str = "retry_task", **parameters: Any) -> Command:
    return Command(id="1", action=action, target={}, parameters={"engine": "retrier", **parameters})


def test_capabilities_are_the_overridden_hooks() -> None:
    assert Retrier().capabilities() == ["retry_task"]


def test_a_hook_s_fields_are_the_result_of_a_success() -> None:
    assert Retrier().perform(command(task_id="1")) == CommandResult(status="success", result={"task_id": "new"})


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (command("cancel_task", task_id="1"), "retrier cannot perform 'cancel_task'"),
        (command("no_such_action"), "retrier cannot perform 'no_such_action'"),
        (command(), "retry_task needs the parameter 'task_id'"),
        (command(task_id=7), "must be str"),
        (command(task_id="fails"), "the broker is away"),
        (command(task_id="breaks"), "ZeroDivisionError: inside"),
    ],
)
def test_a_failure_is_a_result_and_never_raised(request_: Command, error: str) -> None:
    result = Retrier().perform(request_)
    assert result.status == "failed"
    assert error in (result.error or "")


def test_the_host_s_interrupts_pass() -> None:
    with pytest.raises(KeyboardInterrupt):
        Retrier().perform(command(task_id="interrupts"))


def test_discovery_is_refused_with_a_reason_by_default() -> None:
    with pytest.raises(EngineUnavailable, match="pass its adapter explicitly"):
        Retrier.discover()
