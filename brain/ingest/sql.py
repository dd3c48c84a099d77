"""The contract of the two databases: what the store asks of them. Implementations lie beside it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from brain.ingest.decode import Incoming
from brain.ingest.rows import DERIVED_COLUMNS, FACT_COLUMNS, KEY_COLUMNS, METRIC_KEY, TASK_COLUMNS, TaskKey

TASK_TABLE = "z4j_brain_task"
EVENT_TABLE = "z4j_brain_event"
METRIC_TABLE = "z4j_brain_metricminute"
AGENT_TABLE = "z4j_brain_agent"
SEEN_TABLES = {"name": "z4j_brain_taskname", "queue": "z4j_brain_queue", "worker": "z4j_brain_worker"}

_CHANGING = ("updated_at", "revision", *FACT_COLUMNS, *DERIVED_COLUMNS)
#: Tail of the task upsert. A row that another writer changed since it was read keeps its revision and is not
#: touched; the store reads those again and joins again.
TASK_CONFLICT = (
    f"ON CONFLICT ({', '.join(KEY_COLUMNS)}) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in _CHANGING)
    + f" WHERE {TASK_TABLE}.revision = excluded.revision - 1"
)
METRIC_CONFLICT = f"ON CONFLICT ({', '.join(METRIC_KEY)}) DO UPDATE SET count = {METRIC_TABLE}.count + excluded.count"
SEEN_CONFLICT = "ON CONFLICT (project_id, name, engine) DO UPDATE SET last_seen_at = excluded.last_seen_at"
TASK_LIST = ", ".join(TASK_COLUMNS)
FACT_LIST = ", ".join(FACT_COLUMNS)

#: The values of :data:`brain.ingest.rows.TASK_COLUMNS`.
TaskRow = tuple[Any, ...]
#: (project, engine, name), the project as hexadecimal digits.
SeenRow = tuple[str, str, str]
#: (project, engine, task name, queue, worker) of an event.
Seen = tuple[str, str, str | None, str | None, str | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Whose events they are. ``project`` and ``agent`` are the hexadecimal digits of the two ids."""

    project_id: UUID
    agent_id: UUID
    project: str = dataclasses.field(init=False)
    agent: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "project", self.project_id.hex)
        object.__setattr__(self, "agent", self.agent_id.hex)


class AlreadyThere(Exception):
    """What was taken for new is in the table already."""


class Contention(Exception):
    """Another writer kept changing the same tasks."""


class Database(ABC):
    """The few statements that differ between PostgreSQL and SQLite; all run inside the store's transaction."""

    #: Whether tasks may be written from memory, and what seems new as new, without being read first. The statements
    #: then tell what was not so.
    remembers: bool

    @abstractmethod
    def time(self, moment: datetime) -> str:
        """Return a time of UTC as the database takes it."""

    @abstractmethod
    def event_row(self, source: Source, event: Incoming, received_at: str) -> Any:
        """Return an event in the form :meth:`insert_events` takes; ``received_at`` is a result of :meth:`time`."""

    @abstractmethod
    def insert_events(self, cursor: CursorWrapper, rows: Mapping[str, Any], *, certain: bool) -> dict[str, int] | None:
        """Insert events, by id, that are not there yet; return how many were new, by agent, or None for all.

        With ``certain`` it may raise :class:`AlreadyThere` instead of passing over those that are there.
        """

    @abstractmethod
    def load_tasks(
        self, cursor: CursorWrapper, keys: Sequence[TaskKey]
    ) -> Iterable[tuple[TaskKey, int, tuple[Any, ...]]]:
        """Return (key, revision, fact columns) of the tasks that exist."""

    @abstractmethod
    def upsert_tasks(self, cursor: CursorWrapper, rows: Sequence[TaskRow], *, certain: bool) -> list[TaskKey]:
        """Write task rows in the order given; return those that another writer had changed, now locked.

        With ``certain`` it may raise :class:`AlreadyThere` when a task of revision 1 is there.
        """

    @abstractmethod
    def add_metrics(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add counts to the counters; rows are the key columns and the count."""

    @abstractmethod
    def touch_seen(self, cursor: CursorWrapper, table: str, rows: Sequence[SeenRow], now: datetime) -> None:
        """Note that names were seen."""

    @abstractmethod
    def add_visible(self, cursor: CursorWrapper, counts: Sequence[tuple[str, int]]) -> None:
        """Add to the number of stored events of agents."""
