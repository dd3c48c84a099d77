"""The checker: journal against event table, task table, counters and the totals the overview prints."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from brain.histogram import bucket_of
from tests.brainprocess import EMAIL, PASSWORD, BrainProcess
from tests.delivery.journal import Produced, state_of
from tests.webclient import WebClient

ENDS = ("succeeded", "failed")
_HOUR = timedelta(hours=1)


@dataclasses.dataclass(slots=True)
class Books:
    """What the brain holds and shows at one moment."""

    events: list[list[str]]
    tasks: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    visible: dict[str, int]
    dropped: dict[str, int | None]
    processes: list[dict[str, Any]]
    quarantine: int
    screen: dict[str, int] = dataclasses.field(default_factory=dict)
    shown_from: datetime = datetime.min
    shown_to: datetime = datetime.min

    @property
    def keys(self) -> set[str]:
        """The journal keys of the stored events."""
        return {event[0] for event in self.events}


def books_of(brain: BrainProcess, *, screen: bool = True) -> Books:
    """Read the database and, over HTTP, the overview of project ``default``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "books.json"
        brain.manage("shell", "-v0", "-c", f"from tests.delivery.snapshot import dump; dump({str(path)!r})")
        books = Books(**json.loads(path.read_text()))
    if screen:
        books.shown_from = datetime.now(UTC)
        books.screen = overview(brain)
        books.shown_to = datetime.now(UTC)
    return books


def overview(brain: BrainProcess) -> dict[str, int]:
    """Return the totals of the last hour as the overview prints them."""
    browser = WebClient(brain.url)
    browser.sign_in(EMAIL, PASSWORD)
    page = browser.get("/p/default/")
    totals = {name: int(value) for name, value in re.findall(r'data-series="(\w+)" data-value="(\d+)"', page)}
    finished = re.search(r'id="number-finished" data-value="(\d+)"', page)
    dropped = re.search(r"([\d,]+) events? (?:was|were) dropped", page)
    assert finished and set(totals) == {"succeeded", "failed", "retried"}, page
    return {
        **totals,
        "finished": int(finished[1]),
        "dropped": int(dropped[1].replace(",", "")) if dropped else 0,
    }


def problems(books: Books, produced: Iterable[Produced], acknowledged: Iterable[str] = ()) -> list[str]:
    """Return what is wrong, at most a few words each; ``produced`` is exactly what has to be visible."""
    expected = {one.key: one for one in produced}
    found = [
        *_event_problems(books, expected, set(acknowledged)),
        *_task_problems(books, expected),
        *_counter_problems(books),
    ]
    if books.screen:
        found += _screen_problems(books)
    return found


def _event_problems(books: Books, expected: dict[str, Produced], acknowledged: set[str]) -> list[str]:
    times = Counter(event[0] for event in books.events)
    found = []
    for what, keys in (
        ("acknowledged but lost", acknowledged - times.keys()),
        ("produced but not visible", expected.keys() - times.keys()),
        ("visible but not produced", times.keys() - expected.keys()),
        ("stored twice", {key for key, count in times.items() if count > 1}),
    ):
        if keys:
            found.append(f"{len(keys)} events {what}, such as {min(map(str, keys))}")
    changed = [key for key, kind, task, _ in books.events if key in expected and not _same(expected[key], kind, task)]
    if changed:
        found.append(f"{len(changed)} events changed, such as {changed[0]}")
    stored = Counter(event[3] for event in books.events)
    told = {name: count for name, count in books.visible.items() if count}
    if told != dict(stored):
        found.append(f"agents count {told} visible events, stored are {dict(stored)}")
    if books.quarantine:
        found.append(f"{books.quarantine} events in quarantine")
    return found


def _same(one: Produced, kind: str, task: str) -> bool:
    return (one.kind, one.task) == (kind, task)


def _task_problems(books: Books, expected: dict[str, Produced]) -> list[str]:
    lives: dict[str, list[Produced]] = defaultdict(list)
    for one in expected.values():
        lives[one.task].append(one)
    states = {task: state_of(events) for task, events in lives.items()}
    stored = {row["task_id"]: row["state"] for row in books.tasks}
    found = []
    if len(stored) != len(books.tasks):
        found.append("a task is stored twice")
    if wrong := {task for task in states.keys() | stored.keys() if states.get(task) != stored.get(task)}:
        one = min(wrong)
        found.append(f"{len(wrong)} tasks are not as told: {one} is {stored.get(one)}, not {states.get(one)}")
    return found


def _counter_problems(books: Books) -> list[str]:
    counted: Counter[tuple[Any, ...]] = Counter()
    for row in books.metrics:
        # Retries are counted in the minute they became known, which the task table does not keep.
        minute = "" if row["measure"] == "retried" else str(_moment(row["minute"]))
        counted[row["measure"], minute, row["queue"], row["name"], row["bucket"]] += row["count"]
    recount: Counter[tuple[Any, ...]] = Counter()
    for task in books.tasks:
        recount.update(_counted(task))
    keys = counted.keys() | recount.keys()
    if wrong := [key for key in sorted(keys, key=str) if counted[key] != recount[key]]:
        one = wrong[0]
        return [f"{len(wrong)} counters are wrong: {one} is {counted[one]}, not {recount[one]}"]
    return []


def _counted(task: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    """Return what one row of the task table adds to the counters."""
    counts: Counter[tuple[Any, ...]] = Counter()

    def count(measure: str, moment: str | None, bucket: int = 0, by: int = 1) -> None:
        minute = "" if moment is None else str(_moment(moment).replace(second=0, microsecond=0))
        counts[measure, minute, task["queue"], task["name"], bucket] += by

    if task["published_at"]:
        count("published", task["published_at"])
    if task["started_at"]:
        count("started", task["started_at"])
    if task["wait_ms"] is not None:
        count("wait", task["started_at"], bucket_of(task["wait_ms"]))
    if task["state"] in ENDS:
        count(task["state"], task["finished_at"])
        if task["started_at"] and task["run_ms"] is not None:
            count("run", task["finished_at"], bucket_of(task["run_ms"]))
    if task["retries"]:
        count("retried", None, by=task["retries"])
    return counts


def _screen_problems(books: Books) -> list[str]:
    """Compare with the tasks that had finished when the page was asked for, and when it was there."""
    ends = [(row["state"], _moment(row["finished_at"])) for row in books.tasks if row["state"] in ENDS]
    found = []
    for name in ("succeeded", "failed", "finished"):
        wanted = [
            sum(_minute(now) - _HOUR < _minute(at) <= now for state, at in ends if name in (state, "finished"))
            for now in (books.shown_from, books.shown_to)
        ]
        if not min(wanted) <= books.screen[name] <= max(wanted):
            found.append(f"the overview prints {books.screen[name]} {name}, the task table holds {wanted}")
    if books.screen["retried"] != sum(row["retries"] for row in books.tasks):
        found.append(f"the overview prints {books.screen['retried']} retried")
    if books.screen["dropped"] != sum(count or 0 for count in books.dropped.values()):
        found.append(f"the overview prints {books.screen['dropped']} dropped, the agents told {books.dropped}")
    return found


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
