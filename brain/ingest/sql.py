"""The contract of the two databases: what the store asks of them. Implementations lie beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from brain.ingest.rows import DERIVED_COLUMNS, FACT_COLUMNS, KEY_COLUMNS, METRIC_KEY, TASK_COLUMNS, TaskKey

TASK_TABLE = "z4j_brain_task"
EVENT_TABLE = "z4j_brain_event"
METRIC_TABLE = "z4j_brain_metricminute"
SEEN_TABLES = {"name": "z4j_brain_taskname", "queue": "z4j_brain_queue", "worker": "z4j_brain_worker"}

_CHANGING = ("updated_at", "revision", *FACT_COLUMNS, *DERIVED_COLUMNS)
#: Tail of the task upsert. A row that another writer changed since it was read keeps its revision and is not
#: touched; the store sees the smaller row count, reads again and joins again.
TASK_CONFLICT = (
    f"ON CONFLICT ({', '.join(KEY_COLUMNS)}) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in _CHANGING)
    + f" WHERE {TASK_TABLE}.revision = excluded.revision - 1"
)
METRIC_CONFLICT = f"ON CONFLICT ({', '.join(METRIC_KEY)}) DO UPDATE SET count = {METRIC_TABLE}.count + excluded.count"
SEEN_CONFLICT = "ON CONFLICT (project_id, name, engine) DO UPDATE SET last_seen_at = excluded.last_seen_at"
TASK_LIST = ", ".join(TASK_COLUMNS)
FACT_LIST = ", ".join(FACT_COLUMNS)

SeenRow = tuple[UUID, str, str]


class Database(ABC):
    """The few statements that differ between PostgreSQL and SQLite; all run inside the store's transaction."""

    @abstractmethod
    def insert_events(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> dict[UUID, int]:
        """Insert events that are not there yet; return how many were new, by agent."""

    @abstractmethod
    def load_tasks(
        self, cursor: CursorWrapper, keys: Sequence[TaskKey], *, lock: bool
    ) -> Iterable[tuple[TaskKey, int, tuple[Any, ...]]]:
        """Return (key, revision, fact columns) of the tasks that exist."""

    @abstractmethod
    def upsert_tasks(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> int:
        """Write task rows in the order given; return how many took effect."""

    @abstractmethod
    def add_metrics(self, cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add counts to the counters; rows are the key columns and the count."""

    @abstractmethod
    def touch_seen(self, cursor: CursorWrapper, table: str, rows: Sequence[SeenRow], now: datetime) -> None:
        """Note that names were seen; rows are (project, engine, name)."""
