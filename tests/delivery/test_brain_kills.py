"""SIGKILL for the brain at random moments under load, on both databases: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from pathlib import Path
from random import Random

import pytest

from tests.brainprocess import BrainProcess, running_brain
from tests.delivery.campaign import BRAIN_KILLS, BRAIN_KILLS_POSTGRESQL, Outcome, chance
from tests.delivery.checker import books_of, problems
from tests.delivery.journal import Produced, Work, read
from tests.delivery.producer import Load, load
from tests.delivery.proxy import FaultProxy
from tests.wire.peer import Peer


def produced_in(journals: Path) -> list[Produced]:
    """Return everything the journals of a folder hold."""
    return [one for path in sorted(journals.iterdir()) for one in read(path)]


def kill(brain: BrainProcess) -> None:
    """End the brain with SIGKILL and start it again."""
    assert brain.stop(signal.SIGKILL) == -signal.SIGKILL, brain.text()
    brain.start()


async def shoot(brains: list[BrainProcess], work: Load, run: Outcome, dice: Random) -> None:
    """Kill brains under load, each time one by chance, until as many are dead as the run states; let the load end."""
    while run.struck < run.stated:
        # Most die in the middle of their work, some while the agents come back.
        if dice.random() < 0.75:
            await work.progress()
        await asyncio.sleep(dice.uniform(0.0, 0.4))
        await asyncio.to_thread(kill, dice.choice(brains))
        run.struck += 1
    await work.finish()


def settle(brain: BrainProcess, work: Load, journals: Path, run: Outcome) -> None:
    """Check the books and close the run."""
    books = books_of(brain)
    produced = produced_in(journals)
    run.notes = f"connections {work.connections}"
    run.acknowledged = len(work.acknowledged)
    run.produced, run.visible = len(produced), len(books.keys)
    assert problems(books, produced, work.acknowledged) == []
    assert run.acknowledged == run.produced
    run.close()


@pytest.mark.slow
@pytest.mark.parametrize(("database", "kills"), [("sqlite", BRAIN_KILLS), ("postgresql", BRAIN_KILLS_POSTGRESQL)])
async def test_a_killed_brain_loses_and_doubles_nothing(database, kills, request, journals, outcome):
    url = request.getfixturevalue("postgres").create(f"kill{uuid.uuid4().hex[:8]}") if database == "postgresql" else ""
    dice = chance(f"brain-{database}")
    run = outcome(f"brain killed, {database}", kills)
    with running_brain(url) as brain:
        async with load(brain.ws_url, brain.mint("light"), journals, dice) as work:
            await shoot([brain], work, run, dice)
            settle(brain, work, journals, run)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_what_only_repeats_is_counted_once_by_a_brain_that_has_just_started(database, request):
    url = request.getfixturevalue("postgres").create(f"again{uuid.uuid4().hex[:8]}") if database == "postgresql" else ""
    events = Work(chance("repeat")).events(50, time.time())
    with running_brain(url) as brain:
        credential = brain.mint("light")
        for _ in range(2):
            async with Peer(brain.ws_url, credential) as peer:
                assert (await peer.deliver(events)).rejected == 0
            await asyncio.to_thread(kill, brain)
        books = books_of(brain)
    assert books.visible["light"] == len(books.events) == 50
    assert (
        problems(books, [Produced(one["id"], one["task_id"], one["kind"], one["data"]["attempt"]) for one in events])
        == []
    )


async def hop(proxy: FaultProxy) -> None:
    """End all connections now and then, so that agents go from one living brain to another and back."""
    while True:
        await asyncio.sleep(0.5)
        proxy.cut_all()


@pytest.mark.slow
async def test_what_one_brain_wrote_and_did_not_acknowledge_may_go_to_another(postgres, journals, outcome):
    url = postgres.create(f"pair{uuid.uuid4().hex[:8]}")
    dice = chance("two brains")
    run = outcome("one of two brains killed", BRAIN_KILLS_POSTGRESQL)
    shared = {"Z4J_SECRET": "s" * 32, "Z4J_SESSION_SECRET": "t" * 32}
    with running_brain(url, **shared) as one, running_brain(url, **shared) as other:
        credential = one.mint("light")
        async with (
            FaultProxy(one.port, other.port) as proxy,
            load(proxy.ws_url, credential, journals, dice) as work,
        ):
            hopping = asyncio.create_task(hop(proxy))
            try:
                await shoot([one, other], work, run, dice)
            finally:
                hopping.cancel()
            settle(one, work, journals, run)
