"""Commands: acknowledge at once, perform on a thread, answer with what came of it; never the same one twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from z4j_core import limits
from z4j_core.actions import Command, CommandResult
from z4j_core.adapters import Adapter
from z4j_core.errors import Z4JError
from z4j_core.frames import CommandAck, CommandFrame, CommandResultFrame, Frame
from z4j_core.offload import Offload
from z4j_core.text import clean_json, clean_text
from z4j_core.values import plain

from z4j_bare.buffer import BufferStore

Send = Callable[[Frame], None]


class Dispatcher:
    """Carries the brain's commands to the adapters.

    ``send`` takes answers and must not block; answers given while there is no connection wait in it.
    """

    def __init__(self, adapters: Mapping[str, Adapter], buffer: BufferStore, offload: Offload, send: Send) -> None:
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
        result = await self._outcome(command)
        self._buffer.remember_command(
            frame.id, {"status": result.status, "result": clean_json(plain(result.result)), "error": result.error}
        )
        self._answer(frame, result)

    async def _outcome(self, command: Command) -> CommandResult:
        adapter = self._adapter(command)
        if adapter is None:
            engine = _engine(command) or "no engine"
            return CommandResult(status="failed", error=f"this agent does not serve {engine}")
        try:
            future: Future[CommandResult] = self._offload.submit(lambda: adapter.perform(command))
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


def _repeated(stored: dict[str, Any] | None) -> CommandResult:
    if stored is None:
        text = "outcome unknown: the agent was interrupted while it carried out this command"
        return CommandResult(status="failed", result={"outcome": "unknown", "deduplicated": True}, error=text)
    result = {**(stored.get("result") or {}), "deduplicated": True}
    if stored.get("status") == "success":
        return CommandResult(status="success", result=result)
    return CommandResult(status="failed", result=result, error=stored.get("error"))
