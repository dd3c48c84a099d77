"""The rules of the overview's sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.connection import Connection
from dashboard.verdict import Facts, verdict

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ONLINE = Connection(agents=1, online=2, last_heard=NOW - timedelta(seconds=5), quietest=NOW - timedelta(seconds=20))


def facts(**values: object) -> Facts:
    return Facts(**{"now": NOW, "connection": ONLINE, **values})


def ago(**values: float) -> datetime:
    return NOW - timedelta(**values)


@pytest.mark.parametrize(
    ("given", "tone", "word", "page"),
    [
        (facts(connection=Connection()), "idle", "Nothing to see yet", "connect"),
        (facts(connection=Connection(agents=1, last_heard=ago(minutes=7))), "bad", "Blind", "agents"),
        (facts(connection=Connection(agents=0, last_heard=ago(minutes=7))), "bad", "Blind", "connect"),
        (facts(connection=Connection(agents=1, online=1, last_heard=ago(minutes=7))), "bad", "Silent", "agents"),
        (facts(waiting=3, waiting_since=ago(minutes=6)), "bad", "Stuck", "tasks"),
        (facts(waiting=3, waiting_since=ago(minutes=6), started_lately=1), "warn", "Behind", "tasks"),
        (facts(finished=10, failed=2, failure_share=20.0, finished_hour=10), "warn", "Failing", "tasks"),
        (facts(finished=10, failed=6, failure_share=60.0, finished_hour=10), "bad", "Failing", "tasks"),
        (facts(finished=4, failed=4, failure_share=100.0, finished_hour=4), "ok", "All well", "tasks"),
        (facts(finished=10, failed=1, failure_share=10.0, finished_hour=10), "ok", "All well", "tasks"),
        (facts(waiting=3, waiting_since=ago(minutes=4)), "ok", "All well", "tasks"),
        (facts(), "idle", "Quiet", "agents"),
        (facts(finished_hour=7), "ok", "All well", "tasks"),
    ],
)
def test_the_worst_thing_is_said_first(given, tone, word, page):
    found = verdict(given)
    assert (found.tone, found.word, found.page) == (tone, word, page)


def test_a_sentence_holds_its_evidence():
    found = verdict(facts(waiting=4210, waiting_since=ago(minutes=18)))
    assert found.text == "4,210 tasks wait, the oldest for 18 min, and nothing has started for 5 minutes."
    found = verdict(facts(finished=200, failed=50, failure_share=25.0))
    assert found.text == "25 % of the tasks of the last 15 minutes failed (50 of 200)."
