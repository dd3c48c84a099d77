"""What an agent cannot keep is counted and shown: produced = visible + dropped + buffered, to the event."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.brainprocess import eventually, running_brain
from tests.delivery.agentprocess import RealAgent
from tests.delivery.checker import books_of, problems
from tests.delivery.journal import Produced
from tests.delivery.proxy import FaultProxy

pytestmark = pytest.mark.slow
LIMIT, KEPT = 3000, 1000


@pytest.fixture
def small_disk(journals: Path) -> Iterator[Path]:
    """The folder of the buffers on a file system of 400 KiB."""
    folder = journals.parent / "buffers"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k,mode=0700", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED, a full disk: this user may not mount a tmpfs ({mounted.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def _until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, condition, timeout=60)


def check(run, brain, agent: RealAgent, counters: dict) -> list[Produced]:
    """Compare what the agent produced, what the brain stored and what its pages say; return what is visible."""
    books = books_of(brain)
    produced = agent.produced()
    run.produced, run.visible, run.acknowledged = len(produced), len(books.keys), counters["acked"]
    run.dropped, run.buffered = sum(counters["dropped"].values()), counters["buffered"]
    survivors = [one for one in produced if one.key in books.keys]
    assert problems(books, survivors) == []
    (process,) = [row for row in books.processes if row["pid"]]
    assert (process["produced"], process["dropped"]) == (run.produced, run.dropped)
    assert process["buffer_depth"] == run.buffered
    assert books.screen["dropped"] == run.dropped
    run.close()
    return survivors


async def test_a_full_disk_moves_the_buffer_to_memory_and_loses_nothing_uncounted(real_agent, small_disk, outcome):
    run = outcome("disk of an agent full", 1)
    with running_brain() as brain:
        token = brain.mint("real")["token"]
        async with FaultProxy(brain.port) as proxy:
            proxy.refusing = True
            options = {"buffer_size": KEPT}
            agent = real_agent(f"http://127.0.0.1:{proxy.port}", token, 7, burst=50, limit=LIMIT, options=options)
            await _until(lambda: len(agent.produced()) == LIMIT)
            await _until(lambda: "cannot be used" in agent.log.read_text())
            run.struck += 1
            proxy.refusing = False
            counters = await asyncio.to_thread(agent.end)
        survivors = check(run, brain, agent, counters)
    assert 0 < len(survivors) <= KEPT
    assert run.dropped >= LIMIT - KEPT
    assert list(small_disk.glob("*.db")) == []


async def test_what_rotted_in_the_buffer_of_a_dead_agent_is_counted_by_its_heir(real_agent, outcome):
    run = outcome("buffer of a dead agent damaged", 1)
    with running_brain() as brain:
        token = brain.mint("real")["token"]
        async with FaultProxy(brain.port) as proxy:
            proxy.refusing = True
            url = f"http://127.0.0.1:{proxy.port}"
            agent = real_agent(url, token, 7, burst=50, limit=LIMIT)
            await _until(lambda: agent.on_disk() == LIMIT)
            agent.kill()
            (file,) = agent.buffers.glob("*.db")
            with contextlib.closing(sqlite3.connect(file)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            spoil(file)
            run.struck += 1
            proxy.refusing = False
            heir = real_agent(url, token, 8, limit=10)
            await _until(lambda: len(heir.produced()) == 10)
            counters = await asyncio.to_thread(heir.end)
        books = books_of(brain)
    produced = [*agent.produced(), *heir.produced()]
    run.produced, run.visible, run.acknowledged = len(produced), len(books.keys), counters["acked"]
    run.dropped, run.buffered = books.screen["dropped"], counters["buffered"]
    assert problems(books, [one for one in produced if one.key in books.keys]) == []
    assert sum(row["produced"] or 0 for row in books.processes) == run.produced
    assert 0 < counters["dropped"]["buffer_damaged"] == run.dropped
    run.close()


def spoil(path: Path) -> None:
    """Flip bits in the text of events all over a file."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        for position in range(0, len(content), 50_000):
            found = content.find(b'"task_name"', position)
            if found >= 0:
                file.seek(found)
                file.write(b"\xff\x00\x01")


async def test_what_is_lost_is_told_with_the_next_heartbeat(real_agent, outcome):
    run = outcome("buffer of a living agent overflowed", 1)
    with running_brain() as brain:
        token = brain.mint("real")["token"]
        async with FaultProxy(brain.port) as proxy:
            proxy.refusing = True
            options = {"buffer_size": KEPT}
            agent = real_agent(f"http://127.0.0.1:{proxy.port}", token, 7, burst=50, limit=LIMIT, options=options)
            await _until(lambda: agent.on_disk() == LIMIT)
            run.struck += 1
            proxy.refusing = False
            began = time.monotonic()
            await _until(lambda: books_of(brain).screen["dropped"] == LIMIT - KEPT)
            run.notes = f"shown {time.monotonic() - began:.1f} s after the agent could connect, heartbeats every 1 s"
            counters = await asyncio.to_thread(agent.end)
        check(run, brain, agent, counters)
