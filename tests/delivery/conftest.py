"""Fixtures of the delivery tests: databases of their own, journals, and the outcome of each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.agentprocess import RealAgent
from tests.delivery.campaign import Outcome


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    """The folder of a test's journals."""
    folder = tmp_path / "journals"
    folder.mkdir()
    return folder


@pytest.fixture
def real_agent(journals: Path) -> Iterator[Callable[..., RealAgent]]:
    """Return a factory of agent processes: brain URL, token, seed, and what else :class:`Orders` has."""
    started: list[RealAgent] = []

    def start(url: str, token: str, seed: int, **more: Any) -> RealAgent:
        started.append(RealAgent(url, token, journals, len(started), seed, **more))
        return started[-1]

    yield start
    for agent in started:
        agent.discard()


@pytest.fixture
def outcome(record_property: Callable[[str, object], None]) -> Iterator[Callable[[str, int], Outcome]]:
    """Return a factory of outcomes; each is printed at the end of the session."""
    begun: list[Outcome] = []

    def begin(what: str, stated: int) -> Outcome:
        begun.append(Outcome(what, stated))
        return begun[-1]

    yield begin
    for one in begun:
        record_property("outcome", one.line())
