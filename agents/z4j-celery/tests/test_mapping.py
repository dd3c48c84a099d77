from __future__ import annotations

from datetime import UTC, datetime

import pytest
from z4j_celery import mapping
from z4j_celery.lives import Attempt, Lives
from z4j_core.events import EventKind


@pytest.mark.parametrize(
    ("shown", "traceback", "exception", "message"),
    [
        ("ValueError('boom')", "Traceback:\n  x\nValueError: boom\n", "ValueError", "boom"),
        ("Boom('a')", "Traceback:\npkg.mod.Boom: a\nb: c\n", "pkg.mod.Boom", "a\nb: c"),
        ("KeyError('k')", None, "KeyError", "k"),
        ("Boom()", "Traceback:\npkg.Boom\n", "pkg.Boom", ""),
        ("something odd", "no traceback", "something odd", ""),
        (None, None, "Exception", ""),
        (object(), object(), "Exception", ""),
    ],
)
def test_exception_and_message_are_found_in_celery_s_texts(
    shown: object, traceback: object, exception: str, message: str
) -> None:
    data = mapping.failure(shown, traceback)
    assert (data["exception"], data["exception_message"]) == (exception, message)


def test_sizes_are_bounded() -> None:
    data = mapping.failure("E('" + "x" * 10**6 + "')", "y" * 10**6)
    assert sum(len(value) for value in data.values()) < 64 * 1024
    assert len(mapping.outcome(EventKind.SUCCEEDED, {"result": "z" * 10**6})["result"]) == 8192


def test_a_retry_is_not_its_own_parent() -> None:
    headers = {"id": "1", "parent_id": "1", "root_id": "1", "retries": 2}
    data = mapping.sent("a.b", headers, ([], {}, {}), queue="q", priority=None)
    assert "parent_task_id" not in data
    assert data["attempt"] == 2


def test_times_have_a_zone() -> None:
    assert mapping.moment("2026-01-02T03:04:05") == "2026-01-02T03:04:05+00:00"
    assert mapping.moment(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00+00:00"
    assert mapping.moment("soon") is None


def test_a_body_that_is_not_understood_cannot_be_replayed() -> None:
    data = mapping.sent("a.b", {"id": "1"}, b"pickled", queue=None, priority=None)
    assert (data["replayable"], data["replay_reason"]) == (False, "arguments not seen")


def attempt(number: int) -> Attempt:
    return Attempt("a.b", "q", number)


def test_an_event_belongs_to_the_oldest_attempt_it_can_belong_to() -> None:
    lives = Lives()
    lives.received("1", attempt(0))
    assert lives.started("1") == Attempt("a.b", "q", 0, started=True)
    lives.received("1", attempt(1))
    retried, told = lives.ended("1", "retried")
    assert retried is not None
    assert (retried.number, told) == (0, False)
    started = lives.started("1")
    assert started is not None
    assert started.number == 1


def test_a_retry_that_ends_before_its_predecessor_is_told_keeps_its_number() -> None:
    lives = Lives()
    for number in (0, 1):
        lives.received("1", attempt(number))
        lives.started("1")
    lives.received("1", attempt(2))
    ended = [lives.ended("1", kind)[0] for kind in ("succeeded", "retried")]
    assert [one.number for one in ended if one is not None] == [1, 0]


def test_an_end_that_is_told_twice_is_known() -> None:
    lives = Lives()
    lives.received("1", attempt(0))
    assert lives.ended("1", "failed")[1] is False
    assert lives.ended("1", "rejected") == (attempt(0), False)
    assert lives.ended("1", "failed") == (attempt(0), True)
    assert lives.ended("2", "failed") == (None, False)


def test_what_is_remembered_is_bounded() -> None:
    lives = Lives(cap=3)
    for n in range(10):
        lives.received(str(n), attempt(0))
    assert len(lives) == 3
