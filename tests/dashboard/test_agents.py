"""The page of agents."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from brain import tokens
from brain.models import Agent, AgentProcess, Quarantine

pytestmark = pytest.mark.django_db
URL = "/p/shop/agents/"


def test_an_agent_shows_its_processes_and_counters(alice, connected):
    AgentProcess.objects.update(
        clock_skew_ms=-2500, dropped=7, buffer_depth=3, produced=1010, health={"celery.notes": "Results are ignored."}
    )
    Agent.objects.update(visible=1000)
    text = alice.get(URL).text
    for words in (
        "web-1.example.com",
        "clock 2.5 s behind",
        "7 events dropped",
        "1,010",
        "1,000",
        "Results are ignored.",
    ):
        assert words in text


def test_a_small_skew_is_no_badge(alice, connected):
    AgentProcess.objects.update(clock_skew_ms=1999)
    assert "data-skew" not in alice.get(URL).text


def test_states_of_agents(alice, agent, project):
    assert 'data-state="new"' in alice.get(URL).text
    Agent.objects.update(last_seen_at=timezone.now() - timedelta(minutes=3))
    assert "last heard" in alice.get(URL).text
    tokens.revoke(agent.agent, by="test")
    text = alice.get(URL).text
    assert "revoked" in text
    assert 'data-action="revoke"' not in text


def test_only_admins_get_the_buttons(browse, agent):
    assert 'data-action="revoke"' in browse("alice").get(URL).text
    assert 'data-action="revoke"' not in browse("bob").get(URL).text


def test_quarantine_is_shown_with_its_reason(alice, agent, project):
    Quarantine.objects.create(project=project, agent=agent.agent, reason="no engine", content="{}", size=2048)
    assert "no engine" in alice.get(URL).text


def test_dead_processes_are_folded_and_bounded(alice, agent, project):
    for index in range(70):
        AgentProcess.objects.create(
            agent=agent.agent, project=project, worker_id=f"w{index}", session_id=f"s{index}", state="offline"
        )
    text = alice.get(URL).text
    assert text.count("data-process=") == 60
    assert "60+ processes no longer connected" in text


def test_many_agents_cost_no_more_queries(alice, project, django_assert_max_num_queries):
    for index in range(12):
        tokens.mint(project, f"a{index}", by="test")
    with django_assert_max_num_queries(12):
        alice.get(URL)


def test_htmx_gets_the_part_only(alice, agent):
    text = alice.get(URL, headers={"hx-request": "true"}).text
    assert "<html" not in text
    assert 'id="agents-body"' in text
    assert reverse("agent-revoke", args=["shop", agent.agent.pk]) in text


def test_what_was_produced_is_dated_and_not_told_is_not_nought(alice, connected):
    AgentProcess.objects.update(last_seen_at=timezone.now() - timedelta(seconds=21))
    text = alice.get(URL).text
    assert "<dt>Produced</dt><dd>—</dd>" in text
    assert 'data-counter="produced">—<' in text
    AgentProcess.objects.update(produced=5, told_at=timezone.now() - timedelta(seconds=33))
    text = alice.get(URL).text
    assert text.count("33 s ago") == 2, "on the card and at the process; events heard since do not make it newer"
    assert text.index("Visible here") < text.index("Produced, told")
