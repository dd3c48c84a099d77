from __future__ import annotations

from collections.abc import Iterator

import pytest
from z4j_bare import BufferStore
from z4j_bare.window import Batch, Window


@pytest.fixture
def buffer() -> Iterator[BufferStore]:
    store = BufferStore()
    store.append([{"data": {}} for _ in range(1200)])
    yield store
    store.close()


def send(window: Window, seq: int, now: float = 0.0) -> Batch:
    batch = window.next_batch(now)
    assert batch is not None
    window.sent(f"b{seq}", batch, seq=seq, now=now)
    return batch


def test_batches_follow_each_other_without_waiting(buffer: BufferStore) -> None:
    window = Window(buffer)
    assert [len(send(window, seq).rows) for seq in (1, 2, 3)] == [500, 500, 200]
    assert window.next_batch(0) is None


def test_the_window_bounds_what_is_in_flight(buffer: BufferStore) -> None:
    window = Window(buffer, max_events=10, max_in_flight=3)
    for seq in (1, 2, 3):
        send(window, seq)
    assert window.next_batch(0) is None
    window.acknowledged("b1", None, None)
    assert window.next_batch(0) is not None


def test_credit_bounds_the_bytes_in_flight(buffer: BufferStore) -> None:
    window = Window(buffer, max_events=10)
    send(window, 1)
    window.acknowledged("none", None, 1)
    assert window.next_batch(0) is None


def test_one_acknowledgement_may_cover_all_before_it(buffer: BufferStore) -> None:
    window = Window(buffer, max_events=100)
    for seq in (4, 7, 9):
        send(window, seq)
    assert window.acknowledged("b7", 7, None) == 200
    assert len(window) == 1
    assert len(buffer) == 1000


def test_an_overdue_batch_is_sent_again_and_either_id_is_good(buffer: BufferStore) -> None:
    window = Window(buffer, ack_timeout=90)
    first = send(window, 1)
    send(window, 2)
    send(window, 3)
    assert window.next_batch(89) is None
    again = send(window, 4, now=91)
    assert again.numbers == first.numbers
    assert window.acknowledged("b1", None, None) == 500
    assert window.acknowledged("b4", None, None) == 0


def test_a_new_connection_begins_with_everything_unacknowledged(buffer: BufferStore) -> None:
    window = Window(buffer)
    first = send(window, 1)
    send(window, 2)
    window.acknowledged("b2", None, None)
    window.restart()
    assert send(window, 1).numbers == first.numbers


@pytest.mark.parametrize("poison", [1, 250, 500, 777, 1200])
def test_a_poisonous_event_is_found_dropped_and_the_rest_delivered(buffer: BufferStore, poison: int) -> None:
    window = Window(buffer)
    delivered: list[int] = []
    closes = 0
    while len(buffer):
        batch = send(window, 1)
        if poison in batch.numbers:
            closes += 1
            assert closes < 30
            assert window.closed(1009)
            window.restart()
            continue
        delivered += batch.numbers
        window.acknowledged("b1", None, None)
    assert sorted(delivered) == [n for n in range(1, 1201) if n != poison]
    assert buffer.counters()["dropped"] == {"rejected": 1}


def test_other_ends_of_a_connection_blame_nobody(buffer: BufferStore) -> None:
    window = Window(buffer)
    send(window, 1)
    assert not window.closed(1006)
    assert not window.closed(None)
