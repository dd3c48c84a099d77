"""Who is there: what connections say of themselves, written for many of them at once.

A transaction for every heartbeat of five thousand agents would be hundreds a second, in competition with the events.
Here what is to be noted waits until the writer gets to it, and goes to the database together.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Mapping
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError, connection
from z4j_core.frames import AgentStatus, Heartbeat

from brain import agents
from brain.agents import Arrival, Beat, Credential, News
from brain.ingest import Writer

logger = logging.getLogger("z4j.gateway")

#: Seconds heartbeats wait for others to be written with.
LINGER = 0.25


Outcome = dict[str, bool | Exception]


class Presence:
    """Collects on the event loop, writes on the writer thread."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._news = News()
        self._futures: dict[str, asyncio.Future[bool]] = {}
        self._call: asyncio.Future[Outcome] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connected(self, arrival: Arrival) -> asyncio.Future[bool]:
        """Note a connection. The future is done after the commit and tells whether the credential is still good;
        it fails with what prevented it.
        """
        with self._lock:
            self._news.arrivals[arrival.session_id] = arrival
        self._write_now()
        return self._future(arrival.session_id)

    def heard(self, credential: Credential, session_id: str, frame: Heartbeat | AgentStatus) -> asyncio.Future[bool]:
        """Note a heartbeat or a status frame in place of an older one that still waits; the future is as above."""
        with self._lock:
            self._news.beats.setdefault(session_id, Beat(credential)).take(frame)
        self._write_soon()
        return self._future(session_id)

    def touched(self, session_ids: Iterable[str]) -> None:
        """Note that connections were heard now: events count as much as heartbeats."""
        with self._lock:
            self._news.heard.update(session_ids)
        self._write_soon()

    def gone(self, project_id: UUID, session_id: str) -> None:
        """Note the end of a connection."""
        with self._lock:
            self._news.departures[session_id] = project_id
        self._write_now()

    async def settle(self) -> None:
        """Write everything that waits."""
        while self._call is not None or not self._news.is_empty:
            self._write_now()
            if self._call is not None:
                await asyncio.wait([self._call])

    def _future(self, session_id: str) -> asyncio.Future[bool]:
        future = self._futures.get(session_id)
        if future is None:
            future = self._futures[session_id] = asyncio.get_running_loop().create_future()
        return future

    def _write_soon(self) -> None:
        if self._timer is None and self._call is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._write_now)

    def _write_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._call is None:
            self._call = self._writer.call(self._write)
            self._call.add_done_callback(self._written)

    def _write(self) -> Outcome:
        """Write everything that waits; runs on the writer thread, behind the batches that came before."""
        with self._lock:
            news, self._news = self._news, News()
        try:
            return _verdicts(news, agents.note(news))
        except (OperationalError, InterfaceError) as error:
            logger.warning("cannot note who is connected, the database is away: %s", error)
            connection.close_if_unusable_or_obsolete()
            return dict.fromkeys(_sessions(news), error)
        except Exception as error:
            logger.warning("cannot note these connections at once, noting them one by one: %s", error)
            return _one_by_one(news)

    def _written(self, call: asyncio.Future[Outcome]) -> None:
        self._call = None
        error = None if call.cancelled() else call.exception()
        if error is not None:
            logger.error("cannot note who is connected: %s", error, exc_info=error)
        outcome: Mapping[str, bool | BaseException] = (
            dict.fromkeys(self._futures, error) if error is not None else call.result()
        )
        for session_id, verdict in outcome.items():
            future = self._futures.pop(session_id, None)
            if future is None or future.done():
                continue
            if isinstance(verdict, bool):
                future.set_result(verdict)
            else:
                future.set_exception(verdict)
        if not self._news.is_empty:
            self._write_soon() if self._news.can_wait else self._write_now()


def _sessions(news: News) -> dict[str, UUID]:
    """Return the agents whose verdict somebody waits for, by session."""
    beats = {session_id: beat.credential.agent_id for session_id, beat in news.beats.items()}
    return beats | {session_id: arrival.credential.agent_id for session_id, arrival in news.arrivals.items()}


def _verdicts(news: News, void: set[UUID]) -> Outcome:
    return {session_id: agent_id not in void for session_id, agent_id in _sessions(news).items()}


def _one_by_one(news: News) -> Outcome:
    """Write what can be written alone, so that what one connection says costs only itself."""
    outcome: Outcome = {}
    for part in news.parts():
        try:
            outcome |= _verdicts(part, agents.note(part))
        except Exception as error:
            logger.warning("cannot note a connection: %s", error, exc_info=not isinstance(error, DatabaseError))
            outcome |= dict.fromkeys(_sessions(part), error)
    return outcome
