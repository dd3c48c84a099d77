"""Asks the pages of a brain's database and times what they ask of it; imported once Django is set up."""

from __future__ import annotations

import dataclasses
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connection
from django.test import Client

from bench.pagedata import RARE, kinds
from brain.models import Project, Task, User
from dashboard.filters import Cursor

Address = Callable[[random.Random], str]


@dataclasses.dataclass
class Asked:
    """A query a page asked, and the milliseconds it took."""

    sql: str
    params: Any
    took: float


@dataclasses.dataclass
class Line:
    """What was measured of one page."""

    page: str
    queries: list[int] = dataclasses.field(default_factory=list)
    database: list[float] = dataclasses.field(default_factory=list)
    whole: list[float] = dataclasses.field(default_factory=list)
    slowest: Asked | None = None

    def add(self, asked: list[Asked], whole: float) -> None:
        """Take one request in."""
        self.queries.append(len(asked))
        self.database.append(sum(one.took for one in asked))
        self.whole.append(whole)
        slowest = max(asked, key=lambda one: one.took)
        if self.slowest is None or slowest.took > self.slowest.took:
            self.slowest = slowest

    def __str__(self) -> str:
        assert self.slowest is not None
        sql = " ".join(self.slowest.sql.split())
        table = sql.partition(" FROM ")[2][:24]
        return (
            f"{self.page:34} {max(self.queries):>3}  {percentile(self.database, 50):>8.1f} "
            f"{percentile(self.database, 95):>8.1f}  {percentile(self.whole, 50):>8.1f} "
            f"{percentile(self.whole, 95):>8.1f}  {self.slowest.took:>8.1f} {sql[:24]} … {table}"
        )


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile of at least two values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def pages() -> dict[str, Address]:
    """Return what to ask for: a name and how its address is drawn."""

    shop = Project.objects.get(slug="shop")
    newest = Task.objects.order_by("-id").values_list("id", flat=True)[:1].get()
    usual = kinds()[:-1]
    base = "/p/shop/"
    tasks = f"{base}tasks/?"

    def kind(chance: random.Random) -> Any:
        return chance.choice(usual)

    def task(chance: random.Random) -> Any:
        found = Task.objects.filter(project=shop, id__gte=chance.randrange(newest)).order_by("id").first()
        return found or Task.objects.filter(project=shop).first()

    def behind(chance: random.Random) -> str:

        return f"{Cursor.of(task(chance))}"

    rare = {"engine": "engine=taskiq", "queue": "queue=rare", "name": f"name={RARE}", "state": "state=rejected"}
    live = f"{base}tasks/live?top="
    return {
        "overview": lambda _: base,
        "overview live": lambda _: f"{base}live",
        "chart": lambda _: f"{base}chart.json",
        "agents": lambda _: f"{base}agents/",
        "tasks": lambda _: tasks,
        "tasks, oldest first": lambda _: f"{tasks}order=oldest",
        "tasks, some page": lambda c: f"{tasks}after={behind(c)}",
        "tasks, state": lambda c: f"{tasks}state={c.choice(['succeeded', 'failed', 'pending', 'waiting', 'finished'])}",
        "tasks, engine": lambda c: f"{tasks}engine={kind(c).engine}",
        "tasks, queue": lambda c: f"{tasks}queue={kind(c).queue}",
        "tasks, name": lambda c: f"{tasks}name={kind(c).name}",
        **{f"tasks, rare {word}": (lambda _, query=query: tasks + query) for word, query in rare.items()},
        "tasks, rare engine, some page": lambda c: f"{tasks}engine=taskiq&after={behind(c)}",
        "tasks, name failed": lambda c: f"{tasks}state=failed&name={kind(c).name}&since={c.choice(['', '24h', '7d'])}",
        "tasks, queue and engine": lambda c: f"{tasks}queue={kind(c).queue}&engine={kind(c).engine}",
        "tasks, name and wrong queue": lambda c: f"{tasks}name={kind(c).name}&queue=queue-{c.randrange(29):02}",
        "tasks, three, some page": lambda c: (
            f"{tasks}state=failed&engine=arq&queue={kind(c).queue}&order={c.choice(['newest', 'oldest'])}"
            f"&after={behind(c)}"
        ),
        "tasks, failed of rare engine": lambda _: f"{tasks}state=failed&engine=taskiq",
        "tasks, nothing is called so": lambda _: f"{tasks}q=nonesuch",
        "search, many names": lambda c: f"{tasks}q={c.choice(['shop', 'e', 'mail', 'send', 'orders.'])}",
        "search, many names, old page": lambda c: f"{tasks}q={c.choice(['shop', 'send'])}&after={behind(c)}",
        "search, rare names": lambda _: f"{tasks}q=rare",
        "search, names and failed": lambda c: f"{tasks}q={c.choice(['send', 'mail', 'rare'])}&state=failed",
        "search, task id": lambda c: f"{tasks}q={task(c).task_id}",
        "live list": lambda _: f"{live}{newest - 50}",
        "live list, hours later": lambda c: f"{live}{newest - newest // 50}&name={kind(c).name}",
        "live list, rare, hours later": lambda _: f"{live}{newest - newest // 20}&engine=taskiq&state=failed",
        "task": lambda c: f"{base}tasks/{task(c).pk}/",
        "task live": lambda c: f"{base}tasks/{task(c).pk}/live",
    }  # fmt: skip


def ask(client: Any, address: str) -> tuple[list[Asked], float]:
    """Ask for a page; return its queries and the milliseconds it took."""

    asked: list[Asked] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        start = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            asked.append(Asked(sql, params, (time.perf_counter() - start) * 1000))

    start = time.perf_counter()
    with connection.execute_wrapper(note):
        answer = client.get(address)
    whole = (time.perf_counter() - start) * 1000
    if answer.status_code not in {200, 503}:
        sys.exit(f"{address}: {answer.status_code}")
    if connection.vendor == "sqlite":
        _again(asked)
    return asked, whole


def _again(asked: list[Asked]) -> None:
    """Time queries to their last row: SQLite finds a row when it is fetched, not when the query is asked."""

    with connection.cursor() as cursor:
        for one in asked:
            if one.sql.startswith("SELECT"):
                start = time.perf_counter()
                cursor.execute(one.sql, one.params)
                cursor.fetchall()
                one.took = (time.perf_counter() - start) * 1000


def explain(asked: Asked) -> str:
    """Return the plan of a query as it runs."""

    how = "EXPLAIN (ANALYZE, BUFFERS)" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{how} {asked.sql}", asked.params)
        return "\n".join("      " + " ".join(str(value) for value in row) for row in cursor.fetchall())


def measure(repetitions: int, explained: bool, only: str) -> None:
    """Ask for every page and print the table."""

    settings.ALLOWED_HOSTS = ["testserver"]
    user, _ = User.objects.get_or_create(email="bench@example.com", is_superuser=True)
    client = Client()
    client.force_login(user)
    print(f"{'page':34} {'qs':>3}  {'db p50':>8} {'p95':>8}  {'page p50':>8} {'p95':>8}  slowest query", flush=True)
    for name, address in pages().items():
        if only not in name:
            continue
        chance, line = random.Random(3), Line(name)
        for number in range(repetitions + 1):
            asked, whole = ask(client, address(chance))
            if number:
                line.add(asked, whole)
            if sum(line.database) > 20_000 and number > 2:
                break
        print(line, flush=True)
        if explained and line.slowest is not None:
            print(f"      {line.slowest.sql[:3000]}\n      {line.slowest.params}\n{explain(line.slowest)}", flush=True)
