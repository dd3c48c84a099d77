from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
from z4j_core import discovery
from z4j_core.errors import EngineUnavailable


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    found: list[EntryPoint] = []
    monkeypatch.setattr(discovery, "entry_points", lambda group: [point for point in found if point.group == group])
    return found


def add(points: list[EntryPoint], name: str, value: str) -> None:
    points.append(EntryPoint(name=name, value=value, group=discovery.ENGINES))


def test_an_absent_module_is_reported_with_the_reason(points: list[EntryPoint]) -> None:
    add(points, "gone", "no_such_module:Adapter")
    (found,) = discovery.available()
    assert found.adapter is None
    assert str(found) == "gone: not available: No module named 'no_such_module'"


def test_an_absent_attribute_and_a_wrong_kind_are_reported(points: list[EntryPoint]) -> None:
    add(points, "attribute", "json:NoSuchThing")
    add(points, "kind", "json:loads")
    adapters, reasons = discovery.discover()
    assert adapters == []
    assert [reason.split(":")[0] for reason in reasons] == ["attribute", "kind"]


def test_the_celery_adapter_is_found_by_its_entry_point() -> None:
    assert discovery.load("celery").name == "celery"
    adapters, _ = discovery.discover()
    assert "celery" in [adapter.name for adapter in adapters]


def test_asking_for_an_unknown_engine_says_so() -> None:
    with pytest.raises(EngineUnavailable, match="no installed wheel"):
        discovery.load("nonesuch")
