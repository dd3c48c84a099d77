from __future__ import annotations

import json
import time
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from z4j_core.values import Copy, arguments, plain


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("repr was called")

    __str__ = __repr__
    __iter__ = None  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return dict
        raise RuntimeError(f"{name} was read")


class Lazy:
    """Stands for a queryset: looking at it would run SQL."""

    def __iter__(self) -> Any:
        raise AssertionError("evaluated")

    __repr__ = __len__ = __bool__ = __iter__  # type: ignore[assignment]


class Slow(str):
    def __str__(self) -> str:
        time.sleep(10)
        return ""

    __repr__ = __str__


class Colour(Enum):
    RED = object()


@pytest.mark.parametrize("value", [None, True, 1, -1.5, "text", [1, [2]], {"a": {"b": [None]}}, (1, 2)])
def test_plain_json_is_copied_exactly(value: Any) -> None:
    copy = Copy(value)
    assert (copy.exact, copy.truncated) == (True, False)
    assert copy.value == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (float("nan"), "nan"),
        (2**64, str(2**64)),
        (b"abc", "<3 bytes>"),
        (Colour.RED, "Colour.RED"),
        ({1: "a"}, {"1": "a"}),
        (OrderedDict(a=1), {"a": 1}),
        ({7}, [7]),
        ("nul\x00 \ud800", "nul\u2400 \ufffd"),
    ],
)
def test_other_values_become_text_and_are_not_exact(value: Any, shown: Any) -> None:
    copy = Copy(value)
    assert copy.value == shown
    assert copy.exact is False


def test_code_of_foreign_classes_is_never_run() -> None:
    generator = (n for n in [1, 2, 3])
    copy = Copy([Hostile(), Lazy(), Slow("x" * 10), generator, lambda: 1])
    assert copy.value[1] == f"<{__name__}.Lazy>"
    assert copy.value[2] == "x" * 10
    assert not copy.exact
    assert list(generator) == [1, 2, 3]


def test_cycles_and_depth_are_bounded() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    copy = Copy(cycle)
    assert copy.truncated
    json.dumps(copy.value)


def test_size_is_bounded() -> None:
    for huge in ("x" * 50_000_000, ["x" * 100] * 100_000, {str(n): n for n in range(100_000)}, 1 << 100_000):
        began = time.perf_counter()
        assert len(json.dumps(plain(huge, 1000))) < 40_000
        assert time.perf_counter() - began < 0.5


def test_arguments_that_can_be_replayed_say_so() -> None:
    assert arguments((1, "a"), {"b": [2]}) == {"args": [1, "a"], "kwargs": {"b": [2]}, "replayable": True}


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        (("x" * 100_000,), {}, "arguments truncated"),
        ((Decimal(1),), {}, "arguments are not plain JSON values"),
        ("(1, 2)", {}, "arguments not seen"),
        ((), None, "arguments not seen"),
    ],
)
def test_arguments_that_cannot_be_replayed_say_why(args: Any, kwargs: Any, reason: str) -> None:
    fields = arguments(args, kwargs)
    assert (fields["replayable"], fields["replay_reason"]) == (False, reason)
