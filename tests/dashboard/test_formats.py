"""Numbers, durations and JSON as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard import formats, jsontree

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "—"), (0, "< 1 ms"), (12, "12 ms"), (999.6, "1.0 s"), (1234, "1.2 s"), (59_940, "60 s"),
        (59_960, "1 min"), (64_000, "1 min 4 s"), (3_600_000, "1 h"), (7_500_000, "2 h 5 min"), (90_000_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_durations(milliseconds, text):
    assert formats.duration(milliseconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0, "0"), (0.0, "0"), (1234567, "1,234,567"), (3.25, "3.2"), (99.96, "100"), (1234.5, "1,234")],
)
def test_numbers(value, text):
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (12, "12 s ago"),
        (190, "3 min ago"),
        (-190, "in 3 min"),
        (7300, "2 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_moments(seconds, text):
    assert formats.ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_numbers_of_json_keep_their_spelling():
    tree = jsontree.parse('{"big": 12345678901234567890123, "rate": 0.10, "huge": 1e400, "list": []}')
    values = {child.key: child.segments[0].text for child in tree.children}
    assert values == {"big": "12345678901234567890123", "rate": "0.10", "huge": "1e400", "list": "[]"}


def test_redacted_spans_are_told_apart():
    tree = jsontree.parse('["a [redacted:key] b"]')
    assert [(s.text, s.redacted) for s in tree.children[0].segments] == [
        ("a ", False), ("[redacted:key]", True), (" b", False),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[1, 2", "nope", "[" * 100 + "]" * 100, "[" * 200_000])
def test_what_is_no_json_or_too_deep_stays_text(text):
    assert jsontree.parse(text) is None


def test_a_large_document_is_cut_and_says_so():
    tree = jsontree.parse("[" + ",".join(["1"] * 5000) + "]")
    assert len(tree.children) < jsontree.MAX_NODES
    assert tree.left_out == 5000 - len(tree.children)
    wide = jsontree.parse("[" + ",".join(["[1,2,3]"] * 3000) + "]")
    assert wide.left_out > 0
