"""The checker finds what it is there to find: every kind of loss, doubling and miscount, one at a time."""

from __future__ import annotations

import copy
import random
import time

import pytest

from tests.brainprocess import running_brain
from tests.delivery.checker import books_of, problems
from tests.delivery.journal import Journal, Work, read
from tests.wire.peer import Peer

EVENTS = 120


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Books of a brain that was told 120 events, and the journal of them."""
    import asyncio

    journal = Journal(tmp_path_factory.mktemp("journal") / "one")
    work = Work(random.Random(7))
    events = work.events(EVENTS, time.time())
    journal.produced(events)

    async def tell(brain) -> None:
        async with Peer(brain.ws_url, brain.mint("one")) as peer:
            await peer.deliver(events)

    with running_brain() as brain:
        asyncio.run(tell(brain))
        books = books_of(brain)
    return books, read(journal.path)


@pytest.fixture
def books(honest):
    """A copy to falsify."""
    return copy.deepcopy(honest[0])


def found(books, honest, acknowledged=()):
    return " / ".join(problems(books, honest[1], acknowledged))


def test_honest_books_have_no_problem(books, honest):
    assert len(books.keys) == len(honest[1]) == EVENTS
    assert books.screen["finished"] > 0
    assert found(books, honest, books.keys) == ""


def test_a_lost_event_is_found(books, honest):
    gone = books.events.pop()
    assert "1 events produced but not visible" in found(books, honest)
    assert "1 events acknowledged but lost" in found(books, honest, [gone[0]])


def test_a_doubled_event_is_found(books, honest):
    books.events.append(books.events[0])
    assert "1 events stored twice" in found(books, honest)


def test_a_stray_event_is_found(books, honest):
    books.events.append(["no-such-key", *books.events[0][1:]])
    assert "1 events visible but not produced" in found(books, honest)


def test_a_changed_event_is_found(books, honest):
    books.events[0][2] = "another task"
    assert "1 events changed" in found(books, honest)


def test_a_wrong_state_is_found(books, honest):
    next(row for row in books.tasks if row["state"] == "succeeded")["state"] = "failed"
    assert "1 tasks are not as told" in found(books, honest)


def test_a_missing_or_doubled_task_is_found(books, honest):
    books.tasks.append(books.tasks[0])
    assert "a task is stored twice" in found(books, honest)
    del books.tasks[-1], books.tasks[0]
    assert "1 tasks are not as told" in found(books, honest)


@pytest.mark.parametrize("measure", ["published", "started", "succeeded", "failed", "retried", "run", "wait"])
def test_a_counter_that_is_off_by_one_is_found(books, honest, measure):
    next(row for row in books.metrics if row["measure"] == measure and row["count"])["count"] += 1
    assert "1 counters are wrong" in found(books, honest)


@pytest.mark.parametrize("total", ["succeeded", "failed", "finished", "retried", "dropped"])
def test_a_total_on_the_screen_that_is_off_by_one_is_found(books, honest, total):
    books.screen[total] += 1
    assert "the overview prints" in found(books, honest)


def test_a_wrong_count_of_visible_events_is_found(books, honest):
    books.visible["one"] -= 1
    assert "agents count" in found(books, honest)


def test_quarantine_is_found(books, honest):
    books.quarantine = 1
    assert "1 events in quarantine" in found(books, honest)
