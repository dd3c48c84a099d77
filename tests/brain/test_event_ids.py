"""Event ids: deterministic, ordered by time, floor below everything of its moment."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from brain.event_ids import event_id, floor, time_of

PROJECT = UUID(int=7)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(st.text(max_size=80), moments)
def test_an_id_is_a_uuid7_of_its_moment(agent_id, moment):
    identifier = UUID(event_id(PROJECT, agent_id, moment))
    assert identifier.hex == event_id(PROJECT, agent_id, moment)
    assert identifier.version == 7
    assert floor(moment) <= identifier < floor(moment + timedelta(milliseconds=1))
    assert timedelta(0) <= moment - time_of(identifier) < timedelta(milliseconds=1)


def test_other_projects_and_other_events_have_other_ids():
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    ids = {event_id(UUID(int=p), e, moment) for p in (1, 2) for e in ("a", "b")}
    assert len(ids) == 4
