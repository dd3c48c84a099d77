"""Caps and the words about them."""

from __future__ import annotations

import uuid

from brain.gateway import admission
from brain.gateway.admission import Admission, Caps, LogThrottle


class Connection:
    """Remembers whether it was cut."""

    dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_the_total_and_each_address_have_a_cap():
    door = Admission(Caps(total=3, per_address=2, per_agent=0))
    assert door.enter(1, "a", Connection()) == door.enter(2, "a", Connection()) == ""
    assert "from one address" in door.enter(3, "a", Connection())
    assert door.enter(4, "b", Connection()) == ""
    assert "in all" in door.enter(5, "c", Connection())
    door.leave(2)
    door.leave(2)
    assert door.total == 2
    assert door.enter(6, "a", Connection()) == ""


def test_zero_is_no_limit_and_a_unix_socket_has_no_address():
    door = Admission(Caps(total=0, per_address=1, per_agent=0))
    assert all(door.enter(number, "", Connection()) == "" for number in range(10))
    agent = uuid.uuid4()
    assert all(door.take_seat(agent) for _ in range(10))


def test_a_newcomer_costs_the_oldest_without_headers_not_those_who_spoke(monkeypatch):
    monkeypatch.setattr(admission, "MAX_NAMELESS", 2)
    door = Admission(Caps(0, 0, 0))
    connections = [Connection() for _ in range(5)]
    for number, connection in enumerate(connections):
        door.enter(number, "a", connection)
        if number == 0:
            door.named(0)
    assert [connection.dropped for connection in connections] == [False, True, True, False, False]


def test_a_credential_has_as_many_seats_as_allowed():
    door = Admission(Caps(0, 0, per_agent=2))
    agent, other = uuid.uuid4(), uuid.uuid4()
    assert [door.take_seat(agent) for _ in range(3)] == [True, True, False]
    assert door.take_seat(other)
    door.free_seat(agent)
    assert door.take_seat(agent)


def test_the_log_is_told_the_first_lines_then_one_now_and_again_with_how_many_were_left_out():
    now = 0.0
    throttle = LogThrottle(lambda: now)
    assert [throttle("x") for _ in range(admission.LOG_BURST)] == [""] * admission.LOG_BURST
    assert [throttle("x") for _ in range(7)] == [None] * 7
    assert throttle("y") == ""
    now += admission.LOG_INTERVAL
    assert throttle("x") == " (7 more like this left out)"
    assert throttle("x") is None
