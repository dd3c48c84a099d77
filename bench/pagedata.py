"""A brain's database of some size, made up quickly: a month of tasks with their events and counters."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Model

from brain import partitions
from brain.event_ids import milliseconds
from brain.histogram import bucket_of
from brain.ingest.postgresql import copy_lines, copy_statement
from brain.ingest.rows import EVENT_COLUMNS, METRIC_KEY, TASK_COLUMNS
from brain.models import Agent, AgentProcess, Event, MetricMinute, Project, Queue, Task, TaskName
from brain.models.metric import Measure
from brain.states import TaskState

DAYS = 30
#: This part of all tasks came in the last hour: an installation is looked at when it is busy.
LATELY = 0.02
CHUNK = 20_000
RARE = "rare.thing"
ENGINES = ("celery", "rq", "dramatiq", "huey", "arq")
AREAS = ("orders", "mail", "media", "reports", "search", "users", "billing", "stock", "sync", "audit")
VERBS = (
    "create", "update", "remove", "send", "render", "import", "export", "index", "check", "close",
    "retry", "merge", "fetch", "push", "clean", "notify", "archive", "resize", "count", "sign",
)  # fmt: skip
_METRIC_COLUMNS = (*METRIC_KEY, "count")
Row = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A task name: where it runs, how often it is sent, how long it usually takes."""

    name: str
    engine: str
    queue: str
    weight: float
    run_ms: float


def kinds() -> list[Kind]:
    """Return 200 names on 30 queues and 6 engines, a few of them much more frequent than others; one is rare."""
    chance = random.Random(1)
    names = [f"shop.{area}.{verb}" for area in AREAS for verb in VERBS][:-1]
    chance.shuffle(names)
    made = [
        Kind(
            name,
            chance.choices(ENGINES, (70, 15, 9, 5, 1))[0],
            f"queue-{index % 29:02}",
            1 / (index + 1),
            chance.choice((3, 20, 90, 700, 5000)),
        )
        for index, name in enumerate(names)
    ]
    return [*made, Kind(RARE, "taskiq", "rare", 0.00006, 50)]


@dataclasses.dataclass
class Chunk:
    """Rows to be written together."""

    tasks: list[Row] = dataclasses.field(default_factory=list)
    events: list[Row] = dataclasses.field(default_factory=list)


class Month:
    """The tasks of the last 30 days, made in the order of their time."""

    def __init__(self, projects: list[str], agent: str, tasks: int, events: int) -> None:
        self._chance = random.Random(2)
        self._projects = projects
        self._agent = agent
        self._tasks = tasks
        self._with_events = events / (3 * tasks)
        self._now = datetime.now(UTC).replace(tzinfo=None)
        self.counters: Counter[Row] = Counter()

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows but the counters; these are complete at the end."""
        chance, every = self._chance, kinds()
        weights = [kind.weight for kind in every]
        shares = [80, *([20 / (len(self._projects) - 1)] * (len(self._projects) - 1))]
        for start in range(0, self._tasks, CHUNK):
            size = min(CHUNK, self._tasks - start)
            chunk = Chunk()
            drawn = chance.choices(every, weights, k=size)
            owners = chance.choices(self._projects, shares, k=size)
            for number, (kind, project) in enumerate(zip(drawn, owners, strict=True), start):
                self._add(chunk, self._moment(number), kind, project)
            yield chunk

    def _moment(self, number: int) -> datetime:
        early = self._tasks * (1 - LATELY)
        if number < early:
            age = timedelta(hours=1) + (timedelta(days=DAYS, hours=-1)) * (1 - number / early)
        else:
            age = timedelta(hours=1) * (1 - (number - early) / (self._tasks - early))
        return self._now - age

    def _state(self, sent: datetime, started: datetime, ended: datetime) -> TaskState:
        if ended <= self._now:
            draw = self._chance.random()
            if draw < 0.97:
                return TaskState.SUCCEEDED
            if draw < 0.99:
                return TaskState.FAILED
            return TaskState.REVOKED if draw < 0.9995 else TaskState.PENDING
        return TaskState.STARTED if started <= self._now else TaskState.PENDING

    def _add(self, chunk: Chunk, sent: datetime, kind: Kind, project: str) -> None:
        chance = self._chance
        wait_ms = round(chance.lognormvariate(math.log(40), 1.2))
        run_ms = round(chance.lognormvariate(math.log(kind.run_ms), 0.8))
        started = sent + timedelta(milliseconds=wait_ms)
        ended = started + timedelta(milliseconds=run_ms)
        state = self._state(sent, started, ended)
        times = [
            moment
            for moment, done in ((sent, True), (started, state not in _WAITING), (ended, state in _ENDED))
            if done
        ]
        task_id = uuid.UUID(int=chance.getrandbits(128)).hex
        chunk.tasks.append(_task(project, kind, task_id, state, times, (wait_ms, run_ms)))
        if self._with_events >= 1 or chance.random() < self._with_events:
            chunk.events += self._events(project, kind, task_id, state, times)
        self._count(project, kind, state, times, (wait_ms, run_ms))

    def _events(self, project: str, kind: Kind, task_id: str, state: TaskState, times: list[datetime]) -> Iterator[Row]:
        words = ("sent", "started", str(state))
        for word, moment in zip(words, times, strict=False):
            told = f"{milliseconds(moment.replace(tzinfo=UTC)):012x}7{self._chance.getrandbits(12):03x}"
            text = _text(moment)
            payload = f'{{"task_name": "{kind.name}", "attempt": 0, "args": [1, "{task_id}"], "worker": "w@web-1"}}'
            yield (
                f"{told}8{self._chance.getrandbits(60):015x}", project, self._agent, kind.engine, f"task.{word}",
                task_id, kind.name, kind.queue, "w@web-1", text, text, None, "", payload,
            )  # fmt: skip

    def _count(self, project: str, kind: Kind, state: TaskState, times: list[datetime], took: tuple[int, int]) -> None:
        measures = (Measure.PUBLISHED, Measure.STARTED, state)
        minutes = [str(moment.replace(second=0, microsecond=0)) for moment in times]
        for measure, minute in zip(measures, minutes, strict=False):
            self.counters[project, minute, str(measure), kind.engine, kind.queue, kind.name, 0] += 1
        for measure, minute, took_ms in zip((Measure.WAIT, Measure.RUN), minutes[1:], took, strict=False):
            bucket = bucket_of(took_ms)
            self.counters[project, minute, str(measure), kind.engine, kind.queue, kind.name, bucket] += 1


_WAITING = frozenset({TaskState.PENDING})
_ENDED = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.REVOKED})
_BLANK: dict[str, Any] = {
    **dict.fromkeys(TASK_COLUMNS, ""),
    **dict.fromkeys(("priority", "published_at", "queued_at", "received_at", "eta", "started_at", "last_started_at")),
    **dict.fromkeys(("finished_at", "told_run_ms", "run_ms", "wait_ms")),
    **{"revision": 3, "attempt": 0, "told_rank": 2, "retries": 0, "replay_quality": 2, "replayable": True},
    "executed_twice": False,
    "kwargs": '{"priority": "normal", "source": "web", "note": "' + "x" * 60 + '"}',
}


def _text(moment: datetime) -> str:
    return moment.isoformat(" ", "microseconds")


def _task(
    project: str, kind: Kind, task_id: str, state: TaskState, times: list[datetime], took: tuple[int, int]
) -> Row:
    wait_ms, run_ms = took
    texts = [_text(moment) for moment in times]
    row = _BLANK | {
        "project_id": project,
        "engine": kind.engine,
        "task_id": task_id,
        "name": kind.name,
        "queue": kind.queue,
        "state": str(state),
        "args": f'[{run_ms}, "{task_id}"]',
        "created_at": texts[0],
        "published_at": texts[0],
        "queued_at": texts[0],
        "updated_at": texts[-1],
    }
    if len(texts) > 1:
        row |= {"started_at": texts[1], "last_started_at": texts[1], "wait_ms": wait_ms, "worker": "w@web-1"}
    if len(texts) > 2:
        row |= {"finished_at": texts[2], "run_ms": run_ms, "result": f"'{task_id}'"}
    if state is TaskState.FAILED:
        row |= {"exception": "ValueError", "exception_message": "no stock", "traceback": "Traceback\n" * 40}
    return tuple(row[column] for column in TASK_COLUMNS)


def build(tasks: int, events: int) -> None:
    """Fill an empty, migrated database. The project ``shop`` has 80 % of it; indexes are made at the end."""
    projects = [Project.objects.create(slug=slug, name=slug) for slug in ("shop", "blog", "bank", "farm")]
    agent = _people(projects)
    partitions.create_ahead(datetime.now(UTC).date() - timedelta(days=DAYS), days=DAYS + 7)
    month = Month([project.pk.hex for project in projects], agent.pk.hex, tasks, events)
    with _without_indexes():
        for number, chunk in enumerate(month.chunks()):
            _write(Event._meta.db_table, EVENT_COLUMNS, chunk.events)
            _write(Task._meta.db_table, TASK_COLUMNS, chunk.tasks)
            if number % 10 == 9:
                _flush(month.counters, keep=400_000)
        _flush(month.counters, keep=0)
    analyze()


@contextlib.contextmanager
def _without_indexes() -> Iterator[None]:
    """Drop what slows down the filling, and make it again. SQLite would copy a whole table to add a constraint."""
    postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '512MB'" if postgresql else "PRAGMA synchronous=OFF")
    models: tuple[type[Model], ...] = (Task, Event, MetricMinute)
    constraints = [(model, one) for model in models for one in model._meta.constraints if postgresql]
    indexes = [(model, one) for model in models for one in model._meta.indexes]
    with connection.schema_editor() as schema:
        for model, constraint in constraints:
            schema.remove_constraint(model, constraint)
        for model, index in indexes:
            schema.remove_index(model, index)
    yield
    with connection.schema_editor() as schema:
        for model, constraint in constraints:
            schema.add_constraint(model, constraint)
        for model, index in indexes:
            schema.add_index(model, index)


def analyze() -> None:
    """Gather the planner's statistics, on PostgreSQL also the visibility that autovacuum would have noted."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def _people(projects: list[Project]) -> Agent:
    """Create what there is few of: agents, processes, names, queues."""
    for project in projects:
        for model, pairs in (
            (TaskName, {(kind.engine, kind.name) for kind in kinds()}),
            (Queue, {(kind.engine, kind.queue) for kind in kinds()}),
        ):
            model.objects.bulk_create(model(project=project, engine=engine, name=name) for engine, name in pairs)
    agents = [
        Agent.objects.create(project=projects[0], name=f"web-{number}", token_digest=f"{number}", visible=1)
        for number in range(10)
    ]
    AgentProcess.objects.bulk_create(
        AgentProcess(agent=agent, project=projects[0], worker_id=f"w{number}", session_id="s", health={"x": "y" * 200})
        for agent in agents
        for number in range(100)
    )
    return agents[0]


def _flush(counters: Counter[Row], keep: int) -> None:
    """Write the counters of the oldest minutes, all but ``keep`` of them; a minute that is written is over."""
    if not counters:
        return
    ordered = sorted(counters, key=lambda key: key[1])
    leave = ordered[-keep][1] if 0 < keep < len(ordered) else ("" if keep else "9")
    rows = [(*key, counters.pop(key)) for key in ordered if key[1] < leave]
    _write(MetricMinute._meta.db_table, _METRIC_COLUMNS, rows)


def _write(table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
    if not rows:
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(copy_statement(table, columns)) as copy:
                copy.write("\n".join(copy_lines(rows)))
            return
        marks = ", ".join(["%s"] * len(columns))
        cursor.execute("BEGIN")
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        cursor.execute("COMMIT")
