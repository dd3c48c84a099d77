"""A brain in a thief's hands against agents of twenty owners: nothing forbidden is done, nothing is done twice.

The agent is real from the connection down; the brain is a transport that seals what it likes with the right key. What
may be done is written down here a second time, as sets, without the policy module. ``Z4J_TEST_SOAK=1`` sends 100,000
commands, ``Z4J_TEST_SEED`` makes a run repeatable.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest
from z4j_bare.buffer import BufferStore
from z4j_bare.connection import Connection, Mailbox, Services
from z4j_bare.dispatcher import Dispatcher
from z4j_bare.heartbeat import EngineHealth, Vitals
from z4j_bare.transports.base import TransportClosed
from z4j_bare.window import Window
from z4j_core import limits
from z4j_core.actions import ACTIONS, Command
from z4j_core.adapters import EngineAdapter, Sink
from z4j_core.frames import CommandFrame, Hello, HelloAck, encode
from z4j_core.offload import Offload
from z4j_core.policy import Gate, Policy
from z4j_core.signing import Binding, Signer, canonical

T = TypeVar("T")

SOAK = os.environ.get("Z4J_TEST_SOAK") == "1"
SEED = int(os.environ.get("Z4J_TEST_SEED", "1"))
#: To each of the twenty.
COMMANDS = 5_000 if SOAK else 500
A_SESSION = 25
SECRET = b"s" * 32

TASKS = frozenset({"shop.pay", "shop.mail", "billing.charge", "billing.refund"})
SHOP = frozenset({"shop.pay", "shop.mail"})
QUEUES = frozenset({"mail", "payments"})
BOTH = frozenset({"retry_task", "cancel_task"})
NONE: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Owner:
    """A policy, and what it means: sets of what may be done, ``None`` for anything at all."""

    policy: Policy
    actions: frozenset[str] = BOTH
    run: frozenset[str] | None = TASKS
    queues: frozenset[str] | None = QUEUES
    uncancelled: frozenset[str] = NONE
    must_name_queue: bool = False
    capped: bool = True


def full(**lists: Any) -> Policy:
    return Policy(mode="full", **lists)


BILLING = TASKS - SHOP
OWNERS = (
    Owner(Policy(mode="observe"), actions=NONE),
    Owner(Policy(mode="observe", allow_actions=("*",), allow_tasks=("*",)), actions=NONE),
    Owner(Policy(mode="no such mode"), actions=NONE),
    Owner(Policy()),
    Owner(Policy(deny_actions=("cancel_task",)), actions=frozenset({"retry_task"})),
    Owner(Policy(deny_actions=("*",)), actions=NONE),
    Owner(Policy(allow_actions=("cancel_*",)), actions=frozenset({"cancel_task"})),
    Owner(Policy(allow_actions=()), actions=NONE),
    Owner(Policy(allow_actions=("*",), deny_actions=("retry_*",)), actions=frozenset({"cancel_task"})),
    Owner(Policy(deny_tasks=("billing.*",)), run=SHOP, uncancelled=BILLING),
    Owner(Policy(allow_tasks=("shop.*",)), run=SHOP, uncancelled=BILLING),
    Owner(Policy(allow_tasks=("shop.*",), deny_tasks=("*.mail",)), run=frozenset({"shop.pay"}), uncancelled=BILLING),
    Owner(Policy(allow_tasks=()), run=NONE, uncancelled=TASKS),
    Owner(Policy(deny_queues=("payments",)), queues=frozenset({"mail"}), must_name_queue=True),
    Owner(Policy(allow_queues=("payments",)), queues=frozenset({"payments"}), must_name_queue=True),
    Owner(full(), run=None, queues=None, capped=False),
    Owner(full(deny_actions=("retry_task",)), actions=frozenset({"cancel_task"}), queues=None, capped=False),
    Owner(full(deny_tasks=("billing.*",)), run=SHOP, queues=None, uncancelled=BILLING, capped=False),
    Owner(full(allow_tasks=("billing.refund",)), run=frozenset({"billing.refund"}), queues=None, uncancelled=SHOP,
          capped=False),
    Owner(full(deny_tasks=("billing.*",), allow_queues=("mail",)), run=SHOP, queues=frozenset({"mail"}),
          uncancelled=BILLING, must_name_queue=True, capped=False),
)  # fmt: skip


class Recorder(EngineAdapter):
    """An engine that writes down what it is made to do; some of its hooks are no actions of anybody's."""

    name = "toy"

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.effects: list[tuple[float, Command]] = []

    def connect(self, sink: Sink) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def knows(self, kind: str, name: str) -> bool:
        return name in {"task": TASKS, "queue": QUEUES}.get(kind, NONE)

    def _did(self, command: Command) -> dict[str, Any]:
        self.effects.append((self.clock(), command))
        return {}

    _retry_task = _cancel_task = _purge_queue = _submit_task = _restart_worker = _bulk_retry = _schedule_fire = _did


class Inline(Offload):
    """Runs a call at once: nothing here blocks."""

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(call())
        return future


NAMES = (
    *sorted(TASKS), *sorted(TASKS), *sorted(TASKS), "celery.starmap", "os.system", "*", "shop.*",
    "billing.charge\n", " billing.charge", "Billing.charge", "billing", "", "\u0455hop.pay", "shop.pay\x00", "x" * 256,
    None, 5, True, ["billing.charge"], {"a": 1},
)  # fmt: skip
PLACES = (*sorted(QUEUES), *sorted(QUEUES), "payments\n", "*", "PAYMENTS", "", None, 0, ["payments"])
VERBS = (
    *(sorted(ACTIONS) * 20),
    "purge_queue", "submit_task", "restart_worker", "bulk_retry", "schedule.fire", "retry.task",
    "_retry_task", "retry_task ", "Retry_task", "did", "perform", "disconnect", "__init__", "*", "",
)  # fmt: skip


def parameters(chance: random.Random) -> dict[str, Any]:
    """Return parameters of the grammar, most of them near to right."""
    if chance.random() < 0.4:
        name, queue = chance.choice(sorted(TASKS)), chance.choice(sorted(QUEUES))
        return {"engine": "toy", "task_id": "t1", "task_name": name, "queue": queue}
    given: dict[str, Any] = {
        "engine": chance.choice(["toy"] * 12 + ["celery", "", None, 5, ["toy"]]),
        "task_id": chance.choice(["t1"] * 12 + ["", None, 7, "x" * 300]),
        "task_name": chance.choice(NAMES),
        "queue": chance.choice(PLACES),
        "override_args": chance.choice([[], [{"task": "billing.charge"}, [[1]]], None, "[]", {}]),
        "override_kwargs": chance.choice([{}, {"a": 1}, None, []]),
        "terminate": chance.choice([True, False, None, "yes"]),
        "priority": chance.choice([None, 3, True, "9"]),
        "filter": chance.choice([None, {"task_ids": ["t"] * 3}, {"task_ids": ["t"] * 1001}, []]),
        "max": chance.choice([None, None, 10, 5000, float(10**9), True]),
        "task_ids": chance.choice([None, None, ["t"] * 1001, "t"]),
    }
    for name in list(given):
        if chance.random() < (0.1 if name in ("engine", "task_id") else 0.4):
            del given[name]
    return given


class Link:
    """The transport of one session: hands the agent what the brain made, keeps what the agent said."""

    def __init__(self, ack: HelloAck, frames: Iterator[bytes], settled: Callable[[], bool]) -> None:
        self._ack = ack
        self._frames = frames
        self._settled = settled
        self._greeted = False
        self.said: list[dict[str, Any]] = []

    async def send(self, message: bytes) -> None:
        self.said.append(json.loads(message))

    async def receive(self) -> bytes:
        if not self._greeted:
            self._greeted = True
            return canonical(encode(self._ack))
        for _ in range(4):
            await asyncio.sleep(0)
        raw = next(self._frames, None)
        if raw is not None:
            return raw
        async with asyncio.timeout(10):
            while not self._settled():
                await asyncio.sleep(0)
        raise TransportClosed("the brain goes away")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        pass


class Campaign:
    """One owner's agent and the thief's brain, over many sessions and restarts."""

    def __init__(self, owner: Owner, folder: Path, chance: random.Random, policy: Policy | None = None) -> None:
        self.owner, self.folder, self.chance = owner, folder, chance
        self.now = 0.0
        self.sent = self.replays = self.expired = self.repeated = self.cut = self.restarts = 0
        self.valid: dict[str, float] = {}
        self.captured: list[tuple[float, bytes]] = []
        self.bad_ids: set[str] = set()
        self.policy = policy or owner.policy
        self.recorder = Recorder(lambda: self.now)
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.buffer: BufferStore
        self.last: Signer | None = None

    # -- the agent ------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Begin as a new process does: a new file, which takes over what the old one held."""
        if self.restarts:
            self.buffer.close()
        self.restarts += 1
        path = self.folder / f"buffer-00000000-{self.restarts}-{self.restarts}.db"
        self.buffer = BufferStore(path, clock=lambda: self.now)
        self.buffer.adopt(self.folder, "00000000")
        self.mailbox = Mailbox()
        adapters = {"toy": self.recorder}
        # A process that starts has a fresh allowance: what it may do begins here.
        self.recorder.effects.append((self.now, Command(id="start", action="start", target={}, parameters={})))
        self.services = Services(
            secret=SECRET,
            window=Window(self.buffer),
            mailbox=self.mailbox,
            dispatcher=Dispatcher(
                adapters, self.buffer, Inline(), self.mailbox.put, Gate(self.policy, lambda: self.now)
            ),
            vitals=Vitals(self.buffer, ("toy",), ()),
            health=EngineHealth({}, Inline()),
            heartbeat_interval=30.0,
            on_ready=lambda ack: None,
            on_ack=lambda: None,
        )

    # -- the brain ------------------------------------------------------------------------------------------------

    async def session(self) -> None:
        """Connect once and send up to :data:`A_SESSION` frames, until one makes the agent hang up."""
        # Who owns the brain chooses the session's name, and may choose an old one.
        name = self.chance.choice(["again", f"s{self.sent}"])
        binding = Binding("agent", "project", name)
        signer = Signer(SECRET, binding, clock=time.time)
        ack = HelloAck(id="a", agent_id="agent", project_id="project", session_id=name, max_frame_size_bytes=1 << 20)
        link = Link(ack, self.frames(signer), lambda: self.settled(link))
        with pytest.raises(TransportClosed) as closed:
            await Connection(link, self.services).run(Hello(id="h"))
        self.cut += closed.value.code == 4403
        self.last = signer
        for frame in link.said:
            if frame["type"] == "command_result":
                self.answers.setdefault(frame["id"], []).append(frame["payload"])

    def settled(self, link: Link) -> bool:
        acked = {frame["id"] for frame in link.said if frame["type"] == "command_ack"}
        return acked <= {frame["id"] for frame in link.said if frame["type"] == "command_result"}

    def frames(self, signer: Signer) -> Iterator[bytes]:
        for _ in range(A_SESSION):
            self.now += 1.0 if self.chance.random() < 0.01 else 0.0
            self.sent += 1
            kind = self.chance.random()
            if kind < 0.02:
                yield self.forged(signer)
            elif kind < 0.08 and self.captured:
                self.replays += 1
                yield self.chance.choice(self.captured)[1]
            elif kind < 0.16:
                yield self.late(signer)
            else:
                yield self.command(signer)

    def command(self, signer: Signer) -> bytes:
        """Return a well-sealed command; every tenth has the id of one of the last 200 s."""
        recent = [name for name, at in list(self.valid.items())[-50:] if self.now - at < 200]
        if recent and self.chance.random() < 0.1:
            identifier = self.chance.choice(recent)
            self.repeated += 1
        else:
            identifier = f"c{self.sent}"
            self.valid[identifier] = self.now
        raw = signer.seal(self.frame(identifier))
        self.captured = [(at, old) for at, old in self.captured[-20:] if self.now - at < 200] + [(self.now, raw)]
        return raw

    def late(self, signer: Signer) -> bytes:
        """Return a command whose time is over, sealed in its time and within the window of the clocks."""
        self.expired += 1
        timeout = self.chance.randint(1, 20)
        old = Signer(SECRET, signer._binding, clock=lambda: time.time() - timeout - self.chance.randint(2, 30))
        old.seq, signer.seq = signer.seq, signer.seq + 1
        return old.seal(self.frame(self.bad(), timeout))

    def forged(self, signer: Signer) -> bytes:
        """Return a command of another session, agent or key, out of its order, or too old."""
        frame = self.frame(self.bad())
        binding = signer._binding
        match self.chance.randint(0, 5):
            case 0:
                return Signer(SECRET, dataclasses.replace(binding, session_id="other")).seal(frame)
            case 1:
                return Signer(SECRET, dataclasses.replace(binding, agent_id="other")).seal(frame)
            case 2:
                return Signer(b"another key" * 3, binding).seal(frame)
            case 3:
                old = Signer(SECRET, binding, clock=lambda: time.time() - 90)
                old.seq, signer.seq = signer.seq, signer.seq + 1
                return old.seal(frame)
            case 4 if signer.seq:
                again = Signer(SECRET, binding)
                again.seq = signer.seq - 1
                return again.seal(frame)
        return canonical({**encode(frame), "nonce": "n", "seq": signer.seq + 1, "hmac": "0" * 64, "ts": None})

    def bad(self) -> str:
        self.bad_ids.add(f"bad{self.sent}")
        return f"bad{self.sent}"

    def frame(self, identifier: str, timeout: int = 60) -> CommandFrame:
        chance = self.chance
        return CommandFrame(
            id=identifier,
            action=chance.choice(VERBS),
            target=chance.choice([{}, {"type": "task", "engine": "toy"}, {"engine": "celery"}, {"scheduler": "toy"}]),
            parameters=parameters(chance),
            timeout_seconds=timeout,
            issued_by=chance.choice([None, "root"]),
        )

    async def run(self, commands: int) -> None:
        """Send at least ``commands`` frames; every 25th session is with a new process."""
        sessions = 0
        while self.sent < commands:
            if sessions % 25 == 0:
                self.restart()
            sessions += 1
            await self.session()
        self.buffer.close()

    # -- the verdict ----------------------------------------------------------------------------------------------

    @property
    def effects(self) -> list[Command]:
        return [command for _, command in self.recorder.effects if command.action != "start"]

    def forbidden(self) -> list[Command]:
        """Return what was done and must not have been."""
        return [command for command in self.effects if not self.allowed(command)]

    def allowed(self, command: Command) -> bool:
        owner, given = self.owner, command.parameters
        name, queue = given.get("task_name"), given.get("queue")
        if command.action not in owner.actions:
            return False
        if command.action == "cancel_task":
            return not (isinstance(name, str) and name in owner.uncancelled)
        if owner.run is not None and name not in owner.run:
            return False
        if queue in (None, ""):
            return not owner.must_name_queue
        return owner.queues is None or queue in owner.queues

    def done_twice(self) -> list[str]:
        """Return the ids of commands that were done though they were no valid ones, or more than once."""
        done = [command.id for command in self.effects]
        return sorted({one for one in done if done.count(one) > 1 or one in self.bad_ids or one not in self.valid})

    def over_the_cap(self) -> int:
        """Return by how many commands any stretch of a process's life went beyond 60 and one a second."""
        worst, left, before = 0.0, 60.0, 0.0
        for at, command in self.recorder.effects:
            if command.action == "start":
                left, before = 60.0, at
                continue
            left = min(60.0, left + at - before) - 1
            before = at
            worst = min(worst, left)
        return round(-worst)


def run(owner: Owner, folder: Path, number: int, policy: Policy | None = None, commands: int = 0) -> Campaign:
    campaign = Campaign(owner, folder, random.Random(f"{SEED}-{number}"), policy)
    asyncio.run(campaign.run(commands or COMMANDS))
    return campaign


def test_there_are_as_many_owners_and_commands_as_stated() -> None:
    assert len(OWNERS) == len({owner.policy for owner in OWNERS}) == 20
    assert len(OWNERS) * COMMANDS == (100_000 if SOAK else 10_000)


@pytest.mark.parametrize("number", range(len(OWNERS)))
def test_nothing_forbidden_is_done_and_nothing_twice(
    number: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    owner = OWNERS[number]
    campaign = run(owner, tmp_path, number)
    assert campaign.sent >= COMMANDS
    assert campaign.forbidden() == []
    assert campaign.done_twice() == []
    assert not owner.capped or campaign.over_the_cap() == 0
    assert bool(campaign.effects) == bool((owner.actions and owner.run != NONE) or "cancel_task" in owner.actions)
    assert min(campaign.replays, campaign.expired, campaign.repeated, campaign.cut, campaign.restarts - 1) > 0
    refusals = [answer for told in campaign.answers.values() for answer in told if answer["status"] == "failed"]
    assert all(answer["error"] for answer in refusals)
    record_property(
        "outcome",
        f"hostile brain, policy {number}: {campaign.sent} commands, {len(campaign.effects)} allowed effects, "
        f"{campaign.replays} replays, {campaign.repeated} repeated ids, {campaign.expired} expired, "
        f"{campaign.cut} connections cut, {campaign.restarts} processes",
    )


def test_what_was_done_before_is_said_to_be_a_repetition(tmp_path: Path) -> None:
    campaign = run(OWNERS[3], tmp_path, 100)
    again = [
        told for told in campaign.answers.values() if any((one["result"] or {}).get("deduplicated") for one in told)
    ]
    assert again


def test_an_agent_without_a_policy_is_caught(tmp_path: Path) -> None:
    """The verdict can fail: an agent that does everything is found guilty under each owner that forbids something."""
    for number, owner in enumerate(OWNERS):
        if owner.policy != full():
            (tmp_path / str(number)).mkdir()
            campaign = run(
                owner, tmp_path / str(number), number, full(), commands=150 if owner.policy != Policy() else 400
            )
            assert campaign.forbidden() or campaign.over_the_cap(), owner
    assert run(OWNERS[3], tmp_path, 3, full(), commands=400).over_the_cap()


def test_an_agent_that_forgets_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMAND_MEMORY", 0.0)
    assert run(OWNERS[15], tmp_path, 15, commands=500).done_twice()
