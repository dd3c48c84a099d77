"""SIGKILL for PostgreSQL's postmaster at random moments under load; the brain lives on and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.brainprocess import running_brain
from tests.delivery.campaign import DATABASE_KILLS, chance
from tests.delivery.checker import books_of, problems
from tests.delivery.producer import load
from tests.delivery.test_brain_kills import produced_in
from tests.servers import Postgres


@pytest.fixture
def cluster() -> Iterator[Postgres]:
    """A PostgreSQL as in production, fsync on, of this test alone."""
    server = Postgres(durable=True)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()


def kill(server: Postgres) -> None:
    """End every process of the cluster as a crash does, and start it again."""
    server.crash()
    server.start()


@pytest.mark.slow
async def test_a_killed_postmaster_loses_and_doubles_nothing(cluster, journals, outcome):
    dice = chance("postmaster")
    run = outcome("PostgreSQL killed", DATABASE_KILLS)
    with running_brain(cluster.create("crash")) as brain:
        assert brain.process is not None
        async with load(brain.ws_url, brain.mint("light"), journals, dice) as work:
            while run.struck < DATABASE_KILLS:
                await work.progress()
                await asyncio.sleep(dice.uniform(0.0, 0.4))
                await asyncio.to_thread(kill, cluster)
                run.struck += 1
            await work.progress()
            await work.finish()
            books = books_of(brain)
            run.notes = f"connections {work.connections}"
            run.acknowledged = len(work.acknowledged)
            produced = produced_in(journals)
            run.produced, run.visible = len(produced), len(books.keys)
            assert problems(books, produced, work.acknowledged) == []
            assert run.acknowledged == run.produced
        assert brain.process.poll() is None
    run.close()
