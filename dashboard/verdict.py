"""The overview's one sentence: is all well, and if not, what is wrong first. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from dashboard.connection import Connection
from dashboard.formats import ago, number, span

Tone = Literal["ok", "warn", "bad", "idle"]

#: A connected process that was not heard of for this long is called silent.
SILENT = timedelta(seconds=100)
#: Failures above this share are worth a sentence, above the second an alarm.
FAILING, FAILING_BADLY = 10.0, 50.0
#: So few tasks say nothing about a share.
ENOUGH = 5
#: Tasks that wait longer than this while nothing starts are stuck.
STUCK = timedelta(minutes=5)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the verdict is made of; counts are of the last 15 minutes, ``finished_hour`` of the last hour."""

    now: datetime
    connection: Connection
    finished: int = 0
    failed: int = 0
    failure_share: float | None = None
    finished_hour: int = 0
    waiting: int = 0
    waiting_since: datetime | None = None
    started_lately: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence, how bad it is, and where to look (a URL name and a query)."""

    tone: Tone
    word: str
    text: str
    page: str
    query: str = ""


Rule = Callable[[Facts], Verdict | None]


def verdict(facts: Facts) -> Verdict:
    """Return the verdict of the first rule that has one."""
    return next(found for rule in _RULES if (found := rule(facts)) is not None)


def _never_connected(facts: Facts) -> Verdict | None:
    if facts.connection.ever:
        return None
    return Verdict("idle", "Nothing to see yet", "No agent has connected to this project. Connect one.", "connect")


def _locked_out(facts: Facts) -> Verdict | None:
    if facts.connection.agents or facts.connection.last_heard is None:
        return None
    heard = ago(facts.connection.last_heard, facts.now)
    text = f"No valid credential is left, so no agent can connect; the last was heard {heard}. Connect one."
    return Verdict("bad", "Blind", text, "connect")


def _disconnected(facts: Facts) -> Verdict | None:
    if facts.connection.online or facts.connection.last_heard is None:
        return None
    heard = ago(facts.connection.last_heard, facts.now)
    return Verdict("bad", "Blind", f"No agent is connected, the last was heard {heard}.", "agents")


def _silent(facts: Facts) -> Verdict | None:
    heard = facts.connection.last_heard
    if heard is None or facts.now - heard <= SILENT:
        return None
    return Verdict(
        "bad", "Silent", f"Agents are connected, but none was heard since {ago(heard, facts.now)}.", "agents"
    )


def _stuck(facts: Facts) -> Verdict | None:
    since = facts.waiting_since
    if since is None or facts.started_lately or facts.now - since <= STUCK:
        return None
    tasks = "1 task waits" if facts.waiting == 1 else f"{number(facts.waiting)} tasks wait"
    text = f"{tasks}, the oldest for {span(facts.now - since)}, and nothing has started for 5 minutes."
    return Verdict("bad", "Stuck", text, "tasks", "state=waiting&order=oldest")


def _failing(facts: Facts) -> Verdict | None:
    share = facts.failure_share
    if share is None or share <= FAILING or facts.finished < ENOUGH:
        return None
    tone: Tone = "bad" if share > FAILING_BADLY else "warn"
    told = f"{number(facts.failed)} of {number(facts.finished)}"
    text = f"{number(share)} % of the tasks of the last 15 minutes failed ({told})."
    return Verdict(tone, "Failing", text, "tasks", "state=failed&since=15m")


def _slow(facts: Facts) -> Verdict | None:
    since = facts.waiting_since
    if since is None or facts.now - since <= STUCK:
        return None
    text = f"Tasks start, but the oldest one has been waiting for {span(facts.now - since)}."
    return Verdict("warn", "Behind", text, "tasks", "state=waiting&order=oldest")


def _quiet(facts: Facts) -> Verdict | None:
    if facts.finished_hour or facts.waiting:
        return None
    return Verdict("idle", "Quiet", f"Nothing has run in the last hour; {_connected(facts)}.", "agents")


def _well(facts: Facts) -> Verdict:
    done = f"{number(facts.finished_hour)} finished in the last hour"
    share = f", {number(facts.failure_share)} % failed lately" if facts.failure_share else ""
    return Verdict("ok", "All well", f"{done}{share}; {_connected(facts)}.", "tasks", "since=1h")


def _connected(facts: Facts) -> str:
    processes = facts.connection.online
    return "1 process is connected" if processes == 1 else f"{number(processes)} processes are connected"


_RULES: tuple[Rule, ...] = (
    _never_connected,
    _locked_out,
    _disconnected,
    _silent,
    _stuck,
    _failing,
    _slow,
    _quiet,
    _well,
)
