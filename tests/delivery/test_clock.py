"""The clock of an agent is stepped out of the 60 s window while it runs, and back: no state changes, nothing lost."""

from __future__ import annotations

import pytest

from tests.brainprocess import eventually, running_brain
from tests.delivery.campaign import CLOCK_STEPS, chance
from tests.delivery.checker import books_of, problems

REFUSED = "[z4j] not connected: the brain refused the signature"
STEP = 120


@pytest.mark.slow
def test_a_stepped_clock_changes_and_loses_nothing(real_agent, outcome):
    dice = chance("clock")
    run = outcome("clock stepped", CLOCK_STEPS)
    with running_brain() as brain:
        # A refusal for the clock is paused after for 10 to 20 s, so both directions are stepped side by side.
        token = brain.mint("real")["token"]
        agents = [real_agent(brain.url, token, dice.getrandbits(32), burst=1) for _ in range(2)]
        while run.struck < CLOCK_STEPS:
            told = [len(agent.produced()) for agent in agents]
            sizes = [agent.log.read_text().count(REFUSED) for agent in agents]
            stored = brain.query("Event.objects.count()")
            eventually(lambda stored=stored: brain.query("Event.objects.count()") > stored, timeout=60)
            for agent, sign in zip(agents, "+-", strict=True):
                agent.order(f"step {sign}{STEP}")
            for agent, size in zip(agents, sizes, strict=True):
                eventually(lambda agent=agent, size=size: agent.log.read_text().count(REFUSED) > size, timeout=30)
            for agent in agents:
                agent.order("step 0")
                run.struck += 1
            assert all(len(agent.produced()) > before for agent, before in zip(agents, told, strict=True))
        counters = [agent.end(120) for agent in agents]
        books = books_of(brain)
    produced = [one for agent in agents for one in agent.produced()]
    run.produced, run.visible = len(produced), len(books.keys)
    run.acknowledged = sum(one["acked"] for one in counters)
    assert problems(books, produced) == []
    assert [one["dropped"] for one in counters] == [{}, {}]
    assert run.acknowledged == run.produced
    run.close()
