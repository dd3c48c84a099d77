"""Authentication of many connections at once: those that come while one query runs share the next."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from brain import agents
from brain.agents import Credential

#: Tokens of one query.
MAX_GROUP = 500


class Gatekeeper:
    """Looks tokens up on a thread of its own: a newcomer need not wait for the writer."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="z4j-tokens")
        self._waiting: list[tuple[str, asyncio.Future[Credential | None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def authenticate(self, token: str) -> Credential | None:
        """Return the credential of a bearer token, None when it is not valid. Raises the database's errors."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Credential | None] = loop.create_future()
        self._waiting.append((token, future))
        if self._task is None:
            self._task = loop.create_task(self._look_up())
        return await future

    async def _look_up(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                try:
                    found = await loop.run_in_executor(self._thread, _read, [token for token, _ in group])
                except Exception as error:
                    _settle(group, [error] * len(group))
                else:
                    _settle(group, found)
        finally:
            self._task = None


def _read(tokens: list[str]) -> list[Credential | None]:
    connection.close_if_unusable_or_obsolete()
    return agents.authenticate_all(tokens)


def _settle(
    group: list[tuple[str, asyncio.Future[Credential | None]]], results: list[Credential | None] | list[Exception]
) -> None:
    for (_, future), result in zip(group, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
