"""10,000 events sent twice, shuffled, over three connections: rows and counters as if sent once, on both databases."""

from __future__ import annotations

import asyncio
import random
import uuid

import pytest
from z4j_core.frames import EventBatch, EventBatchAck

from tests.brainprocess import running_brain
from tests.conftest import life
from tests.wire.peer import Peer

TASKS = 2_500
SEED = 20


def history() -> list[dict]:
    """Return 10,000 events of 2,500 tasks, every tenth of which fails."""
    return [
        one
        for number in range(TASKS)
        for one in life(f"x{number}", at=number % 50, outcome="failed" if number % 10 == 0 else "succeeded")
    ]


async def pour(url: str, credential: dict[str, str], batches: list[list[dict]]) -> int:
    """Send batches without waiting in between; return how many events were acknowledged."""
    async with Peer(url, credential) as peer:
        for batch in batches:
            await peer.send(EventBatch(id=uuid.uuid4().hex, events=tuple(batch)))
        received = 0
        while received < sum(len(batch) for batch in batches):
            frame = await peer.receive()
            assert isinstance(frame, EventBatchAck)
            assert frame.rejected == 0
            received += frame.received
        return received


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_twice_shuffled_over_three_connections_is_once(database, request):
    url = ""
    if database == "postgresql":
        server, name = request.getfixturevalue("postgres"), f"once{uuid.uuid4().hex[:8]}"
        server.create(name)
        url = server.socket_url(name)
    doubled = history() * 2
    random.Random(SEED).shuffle(doubled)
    batches = [doubled[start : start + 73] for start in range(0, len(doubled), 73)]
    with running_brain(url) as brain:
        credential = brain.mint("flood")
        sent = await asyncio.gather(*(pour(brain.ws_url, credential, batches[lane::3]) for lane in range(3)))
        assert sum(sent) == 8 * TASKS
        assert brain.query("Event.objects.count()") == 4 * TASKS
        assert brain.query("Agent.objects.get(name='flood').visible") == 4 * TASKS
        assert dict(brain.query("list(Task.objects.order_by().values_list('state').annotate(n=Count('id')))")) == {
            "succeeded": TASKS * 9 // 10,
            "failed": TASKS // 10,
        }
        totals = dict(
            brain.query("list(MetricMinute.objects.order_by().values_list('measure').annotate(n=Sum('count')))")
        )
        assert totals == {
            "published": TASKS,
            "started": TASKS,
            "succeeded": TASKS * 9 // 10,
            "failed": TASKS // 10,
            "run": TASKS,
            "wait": TASKS,
        }
        assert brain.query("Quarantine.objects.count()") == 0
