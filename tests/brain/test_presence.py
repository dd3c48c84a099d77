"""What connections say of themselves, written for many at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from z4j_core.frames import AgentStatus, Heartbeat, Hello

from brain import agents, tokens
from brain.agents import Arrival, Beat, News
from brain.gateway import presence
from brain.models import Agent, AgentProcess, Queue

pytestmark = [pytest.mark.django_db, pytest.mark.storage]


@pytest.fixture
def found(agent):
    """What the gateway knows of the credential."""
    return agents.authenticate(agent.token)


def arrivals(found, count: int) -> dict[str, Arrival]:
    """Return connections of as many processes."""
    return {f"s{n}": Arrival(found, Hello(id="h", worker_id=f"w{n}"), f"s{n}", n) for n in range(count)}


def beat(found, *frames) -> Beat:
    """Return what frames say, one after the other."""
    told = Beat(found)
    for frame in frames:
        told.take(frame)
    return told


def test_many_tokens_are_looked_up_in_one_query(project, agent, django_assert_num_queries):
    other = tokens.mint(project, "other", by="test")
    gone = tokens.mint(project, "gone", by="test")
    tokens.revoke(gone.agent, by="test")
    with django_assert_num_queries(1):
        found = agents.authenticate_all([agent.token, "wrong", other.token, gone.token, agent.token])
    assert [one and one.agent_name for one in found] == ["web", None, "other", None, "web"]


def test_statements_do_not_grow_with_the_number_of_connections(found, django_assert_max_num_queries):
    with django_assert_max_num_queries(20):
        assert agents.note(News(arrivals=arrivals(found, 300))) == set()
    frame = Heartbeat(id="h", buffer_size=1)
    with django_assert_max_num_queries(20):
        agents.note(News(beats={f"s{n}": beat(found, frame) for n in range(300)}, heard={"s1"}))
    assert AgentProcess.objects.filter(state="online", buffer_depth=1).count() == 300
    assert Agent.objects.get().last_seen_at is not None


def test_the_newest_wins_whatever_the_frame(found):
    agents.note(News(arrivals=arrivals(found, 2)))
    beats = {
        "s0": beat(found, Heartbeat(id="1", buffer_size=9), AgentStatus(id="2", buffer_depth=4)),
        "s1": beat(found, AgentStatus(id="1", buffer_depth=4), Heartbeat(id="2", buffer_size=9, dropped_events=3)),
    }
    agents.note(News(beats=beats))
    assert list(AgentProcess.objects.order_by("worker_id").values_list("buffer_depth", "dropped")) == [(4, 0), (9, 3)]


def test_arrival_heartbeat_and_departure_in_one_go_are_noted_in_this_order(found, project):
    heartbeat = Heartbeat(id="1", adapter_health={"celery.queue_depths": '{"mail": 5}'})
    agents.note(News(arrivals=arrivals(found, 1), beats={"s0": beat(found, heartbeat)}, departures={"s0": project.id}))
    row = AgentProcess.objects.get()
    assert (row.state, row.health) == ("offline", {"celery.queue_depths": '{"mail": 5}'})
    assert Queue.objects.get().depth == 5


def test_a_newer_connection_keeps_the_row_when_the_older_one_ends(found, project):
    agents.note(News(arrivals=arrivals(found, 1)))
    newer = Arrival(found, Hello(id="h", worker_id="w0"), "newer", None)
    agents.note(News(arrivals={"newer": newer}, departures={"s0": project.id}))
    assert list(AgentProcess.objects.values_list("session_id", "state")) == [("newer", "online")]


def test_two_connections_of_one_identity_in_one_go_leave_the_newer(found):
    pair = {name: Arrival(found, Hello(id="h", worker_id="same"), name, None) for name in ("older", "newer")}
    agents.note(News(arrivals=pair))
    assert AgentProcess.objects.get().session_id == "newer"


def test_a_void_credential_is_told_apart_from_a_good_one(project, found, agent):
    other = agents.authenticate(tokens.mint(project, "other", by="test").token)
    tokens.revoke(agent.agent, by="test")
    beats = {"s0": beat(found, Heartbeat(id="1")), "s1": beat(other, Heartbeat(id="1"))}
    assert agents.note(News(beats=beats)) == {found.agent_id}


def test_a_process_taken_for_lost_is_online_again_with_its_next_heartbeat(found):
    agents.note(News(arrivals=arrivals(found, 1)))
    AgentProcess.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    assert agents.sweep(timedelta(seconds=100)) == 1
    agents.note(News(beats={"s0": beat(found, Heartbeat(id="1"))}))
    row = AgentProcess.objects.get()
    assert (row.state, row.disconnected_at) == ("online", None)


def test_what_the_database_refuses_costs_only_the_connection_that_says_it(found):
    news = News(arrivals=arrivals(found, 2) | {"bad": Arrival(found, Hello(id="h", worker_id="x"), "bad", 2**70)})
    news.beats["s0"] = beat(found, Heartbeat(id="1", buffer_size=7))
    outcome = presence._one_by_one(news)
    assert (outcome["s0"], outcome["s1"]) == (True, True)
    assert isinstance(outcome["bad"], Exception)
    assert AgentProcess.objects.get(session_id="s0").buffer_depth == 7
