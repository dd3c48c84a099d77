"""SIGKILL for the agent at random moments under load: what was on its disk arrives, what was not is its last moments.

Lost with a killed agent is exactly what it had produced since its last write to the buffer file. Nothing counts that
loss, for the events had no number yet; the journal does, here.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brainprocess import eventually, running_brain
from tests.delivery.campaign import AGENT_KILLS, chance
from tests.delivery.checker import books_of, problems
from tests.delivery.journal import Produced
from tests.delivery.proxy import FaultProxy


@pytest.fixture(scope="module")
def brain():
    """One brain for the module."""
    with running_brain() as started:
        yield started


def buffered(folder: Path) -> int:
    """Return how many events are left in buffer files."""
    total = 0
    for path in folder.glob("*.db"):
        with sqlite3.connect(path) as database:
            total += database.execute("SELECT count(*) FROM event").fetchone()[0]
        database.close()
    return total


@pytest.mark.slow
def test_a_killed_agent_loses_its_last_moments_only(brain, real_agent, outcome):
    dice = chance("agent")
    run = outcome("agent killed", AGENT_KILLS)
    token = brain.mint("real")["token"]
    survived: list[Produced] = []
    tails: list[int] = []
    while run.struck < AGENT_KILLS:
        agent = real_agent(brain.url, token, dice.getrandbits(32), burst=dice.choice((2, 5, 20)))
        eventually(agent.produced, interval=0.01)
        time.sleep(dice.uniform(0.0, 0.6))
        assert agent.kill() == -signal.SIGKILL
        run.struck += 1
        produced, kept = agent.produced(), agent.on_disk()
        survived += produced[:kept]
        tails.append(len(produced) - kept)
    # The heir of all buffer files.
    last = real_agent(brain.url, token, 0, limit=10)
    eventually(lambda: len(last.produced()) == 10)
    counters = last.end()
    assert counters["dropped"] == {}
    survived += last.produced()
    books = books_of(brain)
    run.buffered = buffered(last.buffers)
    run.produced, run.visible, run.lost = len(survived) + sum(tails), len(books.keys), sum(tails)
    run.acknowledged = run.visible
    # What agents tell of themselves outlives their deaths: never less than they wrote. More it is when one dies between
    # a heartbeat and the note that it was sent, for its heir then tells the same again.
    told = sum(row["produced"] or 0 for row in books.processes)
    run.notes = f"at the most {max(tails)} at once, agents told of {told}"
    assert problems(books, survived) == []
    assert run.buffered == 0
    assert told >= run.visible
    assert run.visible > run.lost
    run.close()


@pytest.mark.slow
async def test_what_a_full_buffer_drops_is_counted_and_shown(real_agent, outcome):
    run = outcome("buffer of an agent overflowed", 1)
    with running_brain() as own:
        token = own.mint("real")["token"]
        async with FaultProxy(own.port) as proxy:
            proxy.refusing = True
            url = f"http://127.0.0.1:{proxy.port}"
            agent = real_agent(url, token, 7, burst=50, limit=2000, options={"buffer_size": 300})
            await _until(lambda: agent.on_disk() == 2000)
            run.struck += 1
            proxy.refusing = False
            counters = await asyncio.to_thread(agent.end)
        books = books_of(own)
    produced = agent.produced()
    run.produced, run.visible, run.acknowledged = len(produced), len(books.keys), counters["acked"]
    run.dropped, run.buffered = sum(counters["dropped"].values()), counters["buffered"]
    survivors = produced[-run.visible :]
    assert problems(books, survivors) == []
    assert 0 < run.visible <= 300
    (process,) = [row for row in books.processes if row["pid"]]
    assert (process["produced"], process["dropped"], process["buffer_depth"]) == (2000, run.dropped, 0)
    assert books.screen["dropped"] == run.dropped
    run.close()


async def _until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, condition, timeout=60)


@pytest.mark.slow
async def test_what_a_killed_agent_had_dropped_is_counted_by_its_heir(real_agent, outcome):
    run = outcome("agent killed after its buffer overflowed", 1)
    options = {"buffer_size": 300}
    with running_brain() as own:
        token = own.mint("real")["token"]
        async with FaultProxy(own.port) as proxy:
            proxy.refusing = True
            url = f"http://127.0.0.1:{proxy.port}"
            agent = real_agent(url, token, 7, burst=50, limit=2000, options=options)
            await _until(lambda: agent.on_disk() == 2000)
            assert agent.kill() == -signal.SIGKILL
            run.struck += 1
            assert buffered(agent.buffers) == 300
            proxy.refusing = False
            heir = real_agent(url, token, 8, limit=10, options=options)
            await _until(lambda: len(heir.produced()) == 10)
            counters = await asyncio.to_thread(heir.end)
        books = books_of(own)
    run.produced = len(agent.produced()) + len(heir.produced())
    run.visible, run.acknowledged = len(books.keys), counters["acked"]
    run.dropped, run.buffered = books.screen["dropped"], counters["buffered"]
    assert problems(books, [one for one in (*agent.produced(), *heir.produced()) if one.key in books.keys]) == []
    assert run.dropped > 1000
    assert sum(row["produced"] or 0 for row in books.processes) == run.produced
    run.close()
