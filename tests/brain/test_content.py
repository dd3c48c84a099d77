"""What a frame may hold."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from z4j_core.errors import FrameError
from z4j_core.frames import check_depth

from brain.gateway import content


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":9223372036854775808}',
        b'{"a":-9223372036854775809}',
        b'{"a":[1e999]}',
        b'{"a":NaN}',
        b'{"' + b"k" * 257 + b'":1}',
        b'{"a":[' + b"1," * 10_001 + b"1]}",
        b'{"a":[' + b"{}," * 6_000 + b"1]}",
        b"[" * 40,
        b'{"a":"\xff"}',
        b"[1]",
    ],
    ids=range(10),
)
def test_what_is_beyond_a_cap_is_refused(raw):
    with pytest.raises(FrameError):
        content.parse(raw)


def test_what_is_within_the_caps_is_taken():
    depths = json.dumps({f"queue-{number}": number for number in range(20_000)})
    document = {"a": 2**63 - 1, "b": -(2**63), "c": 1.5, "d": [None, True], "health": depths}
    assert content.parse(json.dumps(document).encode()) == document


@pytest.mark.parametrize("check", [content._check_count, lambda raw: check_depth(raw.decode())])
def test_a_string_without_an_end_is_read_once(check):
    # Tried again from each of its quotes, this takes an hour.
    check(b'{"a":' + b"[]," * 4_000 + b'"' + b',\\"' * 400_000)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.floats() | st.integers(), st.lists).map(repr))
def test_nothing_but_a_frame_error_comes_out(raw):
    with contextlib.suppress(FrameError):
        content.parse(raw if isinstance(raw, bytes) else raw.encode())
