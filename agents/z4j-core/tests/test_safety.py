from __future__ import annotations

import logging
import threading

import pytest
from z4j_core.errors import ActionRefused
from z4j_core.offload import Offload
from z4j_core.safety import register_host_interrupt, safe_boundary, safe_call


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), RecursionError(), Unspeakable()])
def test_exceptions_stay_inside(error: Exception) -> None:
    with safe_boundary("test.inside") as boundary:
        raise error
    assert boundary.error is error
    assert error.__traceback__ is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_belongs_to_the_host_passes(error: type[BaseException]) -> None:
    with pytest.raises(error), safe_boundary("test.passes"):
        raise error


class TimeIsUp(Exception):
    """What an engine's signal handler raises."""


class SaidWhenTimeIsUp(Exception):
    def __str__(self) -> str:
        raise TimeIsUp


def test_an_engine_s_interrupts_pass_once_registered() -> None:
    safe_call(interrupt)
    register_host_interrupt(TimeIsUp)
    with pytest.raises(TimeIsUp), safe_boundary("test.outer"), safe_boundary("test.inner"):
        raise TimeIsUp
    with pytest.raises(TimeIsUp):
        safe_call(interrupt)
    with pytest.raises(TimeIsUp), safe_boundary("test.while_logging"):
        raise SaidWhenTimeIsUp


def interrupt() -> None:
    raise TimeIsUp


def test_a_kind_of_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "z4j")
    for _ in range(3):
        with safe_boundary("test.once"):
            raise ValueError("the same")
    assert len([record for record in caplog.records if "test.once" in record.message]) == 1


def test_safe_call_gives_the_default() -> None:
    assert safe_call(int, "7") == 7
    assert safe_call(int, "x", default=0) == 0


def test_the_pool_is_bounded_and_reports_results_and_errors() -> None:
    pool, gate = Offload(workers=1), threading.Event()
    first = pool.submit(lambda: gate.wait(10))
    with pytest.raises(ActionRefused):
        pool.submit(lambda: None)
    gate.set()
    assert first.result(10) is True

    def broken() -> None:
        raise KeyError("x")

    deadline = threading.Event()
    while True:
        try:
            assert isinstance(pool.submit(broken).exception(10), KeyError)
            break
        except ActionRefused:
            deadline.wait(0.01)
