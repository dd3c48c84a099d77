"""Commands: acknowledge at once, perform on a thread, answer with what came of it; never the same one twice.

Nothing is done that the policy of this agent refuses, nor after the command's time is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from z4j_core import limits
from z4j_core.actions import Command, CommandResult
from z4j_core.adapters import Adapter
from z4j_core.errors import Z4JError
from z4j_core.frames import CommandAck, CommandFrame, CommandResultFrame, Frame
from z4j_core.offload import Offload
from z4j_core.policy import Gate, judge
from z4j_core.text import clean_json, clean_text
from z4j_core.values import plain

from z4j_bare.buffer import BufferStore

Send = Callable[[Frame], None]


class Dispatcher:
    """Carries the brain's commands to the adapters.

    ``send`` takes answers and must not block; answers given while there is no connection wait in it. ``clock`` tells
    Unix time.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        buffer: BufferStore,
        offload: Offload,
        send: Send,
        gate: Gate,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._adapters = adapters
        self._buffer = buffer
        self._offload = offload
        self._send = send
        self._running: dict[str, asyncio.Task[None]] = {}

    def handle(self, frame: CommandFrame) -> None:
        """Acknowledge the command and begin it, or answer a repetition with what is already known."""
        self._send(CommandAck(id=frame.id, delivery_claim_token=frame.delivery_claim_token))
        if frame.id in self._running:
            return
        known, result = self._buffer.command(frame.id)
        if known:
            self._answer(frame, _repeated(result))
            return
        if self._buffer.remembered_commands() >= limits.COMMAND_MEMORY_CAP:
            self._answer(frame, _refused("too many commands within five minutes"))
            return
        self._buffer.remember_command(frame.id)
        task = asyncio.get_running_loop().create_task(self._perform(frame))
        self._running[frame.id] = task
        task.add_done_callback(lambda _: self._running.pop(frame.id, None))

    async def _perform(self, frame: CommandFrame) -> None:
        command = Command(
            id=frame.id,
            action=frame.action,
            target=frame.target,
            parameters=frame.parameters,
            timeout_seconds=float(frame.timeout_seconds),
            issued_by=frame.issued_by,
        )
        refusal = self._refusal(frame)
        result = _refused(refusal) if refusal is not None else await self._outcome(command)
        self._buffer.remember_command(
            frame.id, {"status": result.status, "result": clean_json(plain(result.result)), "error": result.error}
        )
        self._answer(frame, result)

    def _refusal(self, frame: CommandFrame) -> str | None:
        """Return why a command is not even begun: its time is over, or no command like it may be done now."""
        age = _age(frame, self._clock())
        if age > frame.timeout_seconds:
            return f"expired: it was sent {age:.0f} s ago and had {frame.timeout_seconds} s; nothing was done"
        return self._gate.refuses(frame.action)

    async def _outcome(self, command: Command) -> CommandResult:
        adapter = self._adapter(command)
        if adapter is None:
            engine = _engine(command) or "no engine"
            return CommandResult(status="failed", error=f"this agent does not serve {engine}")
        deadline = time.monotonic() + command.timeout_seconds

        def refuses(complete: Command) -> str | None:
            reason = judge(self._gate.policy, complete.action, complete.parameters, adapter.knows)
            if reason is None and time.monotonic() >= deadline:
                return "expired: its time was over before it could be begun; nothing was done"
            return reason

        try:
            future: Future[CommandResult] = self._offload.submit(lambda: adapter.perform(command, refuses))
            return await asyncio.wait_for(asyncio.wrap_future(future), command.timeout_seconds)
        except TimeoutError:
            text = f"outcome unknown: no answer from {adapter.name} within {command.timeout_seconds:.0f} s"
            return CommandResult(status="failed", result={"outcome": "unknown"}, error=text)
        except Z4JError as error:
            return CommandResult(status="failed", error=str(error))

    def _adapter(self, command: Command) -> Adapter | None:
        name = _engine(command)
        if name is None and len(self._adapters) == 1:
            return next(iter(self._adapters.values()))
        return self._adapters.get(name or "")

    def _answer(self, frame: CommandFrame, result: CommandResult) -> None:
        error = None if result.error is None else clean_text(result.error)[: limits.MAX_ERROR]
        self._send(
            CommandResultFrame(
                id=frame.id,
                status=result.status,
                result=clean_json(plain(result.result)),
                error=error,
                delivery_claim_token=frame.delivery_claim_token,
            )
        )


def _engine(command: Command) -> str | None:
    for source, key in ((command.parameters, "engine"), (command.target, "engine"), (command.target, "scheduler")):
        value: Any = source.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def _age(frame: CommandFrame, now: float) -> float:
    """Return how many seconds ago the brain sealed the frame; one without its time was never sealed."""
    return now - datetime.fromisoformat(frame.ts).timestamp() if frame.ts else 0.0


def _refused(reason: str) -> CommandResult:
    return CommandResult(status="failed", result={"refused": True}, error=reason)


def _repeated(stored: dict[str, Any] | None) -> CommandResult:
    if stored is None:
        text = "outcome unknown: the agent was interrupted while it carried out this command"
        return CommandResult(status="failed", result={"outcome": "unknown", "deduplicated": True}, error=text)
    result = {**(stored.get("result") or {}), "deduplicated": True}
    if stored.get("status") == "success":
        return CommandResult(status="success", result=result)
    return CommandResult(status="failed", result=result, error=stored.get("error"))
