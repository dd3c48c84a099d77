from __future__ import annotations

import pytest
from z4j_bare.backoff import Backoff, Failure, classify, explain


def highest(cap: float = 30.0) -> Backoff:
    return Backoff(cap, uniform=lambda low, high: high)


def lowest() -> Backoff:
    return Backoff(30.0, uniform=lambda low, high: low)


def test_a_lost_connection_is_tried_again_promptly_then_ever_more_slowly() -> None:
    backoff = highest()
    assert [backoff.delay(Failure.NETWORK) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    backoff.succeeded()
    assert backoff.delay(Failure.NETWORK) == 1.0


def test_the_jitter_is_full() -> None:
    backoff = lowest()
    assert [backoff.delay(Failure.NETWORK) for _ in range(4)] == [0.2, 1.0, 1.0, 1.0]


def test_refused_credentials_are_tried_rarely() -> None:
    assert lowest().delay(Failure.AUTH) == 10.0
    backoff = highest()
    assert max(backoff.delay(Failure.AUTH) for _ in range(20)) == 600.0


def test_an_incompatible_brain_is_tried_very_rarely() -> None:
    assert lowest().delay(Failure.INCOMPATIBLE) == 60.0


def test_the_user_s_cap_is_kept() -> None:
    backoff = highest(cap=0.5)
    assert max(backoff.delay(Failure.NETWORK) for _ in range(9)[1:]) <= 1.0


@pytest.mark.parametrize(
    ("code", "status", "failure"),
    [
        (4401, None, Failure.AUTH),
        (4403, None, Failure.AUTH),
        (4003, None, Failure.AUTH),
        (None, 401, Failure.AUTH),
        (4426, None, Failure.INCOMPATIBLE),
        (4012, None, Failure.NETWORK),
        (1006, None, Failure.NETWORK),
        (4429, None, Failure.NETWORK),
        (None, 502, Failure.NETWORK),
    ],
)
def test_each_end_has_its_class(code: int | None, status: int | None, failure: Failure) -> None:
    assert classify(code, status) is failure


def test_ends_are_explained_in_words() -> None:
    assert "token" in explain(4401, "")
    assert explain(4999, "why") == "the connection was closed (4999) (why)"
