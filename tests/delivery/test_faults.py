"""What networks do, on the way between agents and the brain: nothing lost, nothing doubled, and it ends well."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.brainprocess import running_brain
from tests.delivery import proxy as faults
from tests.delivery.campaign import FAULTS, STORM_BATCHES, STORM_LANES, chance
from tests.delivery.checker import books_of, problems
from tests.delivery.producer import Pace, load
from tests.delivery.proxy import Fault, FaultProxy
from tests.delivery.test_brain_kills import produced_in

Make = Callable[[random.Random], Fault]
#: A fault, its direction, and how it ends a connection: those that do not end it strike each lane once.
ENDING: dict[str, tuple[str, Make]] = {
    "a frame of the agent twice": ("up", lambda dice: faults.repeated(dice.randint(2, 5))),
    "a frame of the brain twice": ("down", lambda dice: faults.repeated(dice.randint(2, 5))),
    "black hole to the brain": ("up", lambda dice: faults.swallowed_after(dice.randint(0, 20_000))),
    "black hole to the agent": ("down", lambda dice: faults.swallowed_after(dice.randint(0, 4_000))),
    "reset on the way to the brain": ("up", lambda dice: faults.reset_after(dice.randint(0, 20_000))),
    "reset on the way to the agent": ("down", lambda dice: faults.reset_after(dice.randint(0, 4_000))),
}
LASTING: dict[str, tuple[str, Make]] = {
    "late to the brain": ("up", lambda dice: faults.delayed(0.1)),
    "late to the agent": ("down", lambda dice: faults.delayed(0.1)),
    "a drip to the brain": ("up", lambda dice: faults.dripping(64, 0.001)),
    "a drip to the agent": ("down", lambda dice: faults.dripping(8, 0.001)),
}
LANES = 4


@pytest.fixture
def brain():
    """A brain of its own for each test: the books are read whole."""
    with running_brain() as started:
        yield started


@pytest.mark.slow
async def test_no_fault_loses_or_doubles_anything(brain, journals, outcome):
    dice = chance("faults")
    run = outcome("faults of the network", len(ENDING) * FAULTS + len(LASTING) * LANES)
    credential = brain.mint("light")
    acknowledged: set[str] = set()
    for name, (direction, make) in [*ENDING.items(), *LASTING.items()]:
        wanted = FAULTS if name in ENDING else LANES
        async with FaultProxy(brain.port) as proxy:
            setattr(proxy, direction, make(dice))
            pace = Pace(patience=0.4 if name in ENDING else 5.0, batch=(5, 20))
            async with load(proxy.ws_url, credential, journals, dice, lanes=LANES, pace=pace) as work:
                async with asyncio.timeout(60):
                    while proxy.struck < wanted:
                        await asyncio.sleep(0.02)
                        setattr(proxy, direction, make(dice))
                if name in LASTING:
                    await work.progress()
                setattr(proxy, direction, faults.intact)
                await work.finish()
            acknowledged |= work.acknowledged
            run.struck += proxy.struck
    books = books_of(brain)
    produced = produced_in(journals)
    run.acknowledged, run.produced, run.visible = len(acknowledged), len(produced), len(books.keys)
    assert problems(books, produced, acknowledged) == []
    assert run.acknowledged == run.produced
    run.close()


@pytest.mark.slow
async def test_a_real_agent_lives_through_cuts_and_resets(brain, real_agent, outcome):
    dice = chance("real")
    run = outcome("connection of a real agent ended", FAULTS)
    token = brain.mint("real")["token"]
    async with FaultProxy(brain.port) as proxy:
        agent = real_agent(f"http://127.0.0.1:{proxy.port}", token, dice.getrandbits(32))
        async with asyncio.timeout(120):
            while proxy.struck < FAULTS:
                end = dice.choice((faults.cut_after, faults.reset_after))
                fault = end(dice.randint(0, 20_000))
                proxy.up, proxy.down = (fault, faults.intact) if dice.random() < 0.5 else (faults.intact, fault)
                await asyncio.sleep(0.05)
        proxy.up = proxy.down = faults.intact
        proxy.cut_all()
        counters = await asyncio.to_thread(agent.end)
        run.struck = proxy.struck
    books = books_of(brain)
    produced = agent.produced()
    run.produced, run.visible, run.acknowledged = len(produced), len(books.keys), counters["acked"]
    run.dropped, run.buffered = sum(counters["dropped"].values()), counters["buffered"]
    assert problems(books, produced) == []
    assert counters["produced"] == run.produced == run.acknowledged
    run.close()


@pytest.mark.slow
async def test_many_agents_come_back_at_once(brain, journals, outcome):
    dice = chance("storm")
    run = outcome("agents that came back at once", STORM_LANES)
    credential = brain.mint("light")
    async with FaultProxy(brain.port) as proxy:
        # Whatever the first acknowledgements free, the windows fill up behind the black hole.
        proxy.down = faults.swallowed_after(4_000)
        pace = Pace(batch=(25, 25), window=STORM_BATCHES, pause=0.05, patience=120.0)
        async with load(proxy.ws_url, credential, journals, dice, lanes=STORM_LANES, pace=pace) as work:
            async with asyncio.timeout(120):
                while work.waiting < STORM_LANES * STORM_BATCHES:
                    await asyncio.sleep(0.05)
            before = work.connections
            proxy.down = faults.intact
            proxy.cut_all()
            await work.progress(60)
            await work.finish(120)
        run.struck = work.connections - before
    books = books_of(brain)
    produced = produced_in(journals)
    run.acknowledged, run.produced, run.visible = len(work.acknowledged), len(produced), len(books.keys)
    assert problems(books, produced, work.acknowledged) == []
    assert run.acknowledged == run.produced
    run.close()
