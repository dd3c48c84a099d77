"""Event ids: deterministic, ordered by time, floor below everything of its moment."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from brain.event_ids import EventIds, floor, time_of

PROJECT = UUID(int=7)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(st.text(max_size=80), moments)
def test_an_id_is_a_uuid7_of_its_moment(agent_id, moment):
    ids = EventIds(PROJECT)
    identifier = UUID(ids.of(agent_id, moment))
    assert identifier.hex == ids.of(agent_id, moment)
    assert identifier.version == 7
    assert floor(moment) <= identifier < floor(moment + timedelta(milliseconds=1))
    assert timedelta(0) <= moment - time_of(identifier) < timedelta(milliseconds=1)


def test_other_projects_and_other_events_have_other_ids():
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    ids = {EventIds(UUID(int=p)).of(e, moment) for p in (1, 2) for e in ("a", "b")}
    assert len(ids) == 4


def test_an_id_never_changes_from_one_release_to_the_next():
    moment = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
    assert EventIds(PROJECT).of("event-1", moment) == "019b798988537351aa4205fc8dd42f4b"
