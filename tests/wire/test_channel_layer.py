"""The channel layer only hints: while it is away, and after it has forgotten everyone, everything else goes on."""

from __future__ import annotations

import asyncio

import pytest
from z4j_core.frames import CommandFrame

from tests.brainprocess import BrainProcess, eventually, running_brain
from tests.conftest import life
from tests.servers import Valkey
from tests.wire.peer import Peer

RETRY = (
    "(lambda task: __import__('brain.commands', fromlist=['x']).issue_for_task("
    "task.project, task, 'retry_task', User.objects.get()).state)(Task.objects.get(task_id='%s'))"
)


@pytest.fixture
def valkey():
    """A Valkey of its own, to be taken down."""
    server = Valkey()
    server.start()
    yield server
    server.stop()


async def test_agents_connect_deliver_and_are_woken_whatever_becomes_of_the_layer(valkey):
    with running_brain(Z4J_REDIS_URL=f"redis://127.0.0.1:{valkey.port}") as brain:
        credential = await asyncio.to_thread(brain.mint, "a")
        async with Peer(brain.ws_url, credential, capabilities={"celery": ["retry_task"]}) as before:
            for task_id in ("t1", "t0"):
                assert (await before.deliver(life(task_id, outcome="failed"))).accepted == 4
            valkey.process.kill()
            valkey.process.wait()
            assert (await before.deliver(life("t2"))).accepted == 4
            async with Peer(brain.ws_url, credential) as meanwhile:
                assert (await meanwhile.deliver(life("t3"))).accepted == 4
            await asyncio.to_thread(eventually, lambda: "channel layer is away" in brain.text())
            await woken(brain, before, "t0")
            valkey.start()
            await woken(brain, before, "t1")
        assert "Traceback" not in brain.text()
        assert brain.text().count("channel layer is away") <= 2


async def woken(brain: BrainProcess, peer: Peer, task_id: str) -> None:
    """Issue a command from another process, so that only the brain's own look for such commands finds it."""
    await asyncio.to_thread(brain.query, RETRY % task_id)
    async with asyncio.timeout(30):
        while not isinstance(await peer.receive(), CommandFrame):
            pass
