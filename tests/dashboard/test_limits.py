"""A page that asks too much of the database is given up, and says so."""

from __future__ import annotations

import pytest
from django.db import OperationalError, connection
from django.urls import reverse

from dashboard import access
from dashboard.limits import TooSlow, time_limit

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n"


def ask(sql: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()


def test_what_takes_too_long_is_given_up_and_the_connection_lives_on():
    with pytest.raises(TooSlow, match="and was not done"), time_limit(0.05):
        ask(ENDLESS)
    assert ask("SELECT 1") == (1,)


def test_the_limit_ends_with_the_page():
    with time_limit(0.02):
        assert ask("SELECT 1") == (1,)
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT count(*) FROM n"
    assert ask(slow) == (300_000,)


def test_other_errors_of_the_database_are_not_taken_for_it():
    with pytest.raises(OperationalError, match="locked"), time_limit():
        raise OperationalError("database is locked")


def test_the_page_says_so(alice, project, monkeypatch):
    def slow(*args):
        with time_limit(0.05):
            ask(ENDLESS)

    monkeypatch.setattr("dashboard.pages.overview.metrics.hour", slow)
    answer = alice.get(reverse("overview", args=["shop"]))
    assert answer.status_code == 503
    assert "This took too long" in answer.text
    assert "Ask for a shorter time" in answer.text


def test_pages_that_only_read_are_limited(alice, project, monkeypatch):
    seen = []

    def noted(*args):
        seen.append(args)
        return time_limit(*args)

    monkeypatch.setattr(access, "time_limit", noted)
    alice.get(reverse("tasks", args=["shop"]))
    alice.post(reverse("agent-mint", args=["shop"]), {"name": "new"})
    assert len(seen) == 1
