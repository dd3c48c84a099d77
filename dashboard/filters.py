"""The task list's filters: from a URL to a query and back. The URL is the view."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from z4j_core.text import clean_text

from brain.errors import InvalidInput
from brain.models import Project, Queue, Task, TaskName
from brain.states import TERMINAL_STATES, TaskState

#: Task names one search may stand for.
MAX_NAMES = 200
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Words that stand for several states.
STATE_GROUPS: dict[str, tuple[TaskState, ...]] = {
    "waiting": (TaskState.PENDING, TaskState.RECEIVED),
    "finished": tuple(sorted(TERMINAL_STATES)),
}
WINDOWS: dict[str, tuple[timedelta, str]] = {
    "15m": (timedelta(minutes=15), "the last 15 minutes"),
    "1h": (timedelta(hours=1), "the last hour"),
    "24h": (timedelta(hours=24), "the last 24 hours"),
    "7d": (timedelta(days=7), "the last 7 days"),
}
NEWEST, OLDEST = "newest", "oldest"


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the list: the task it lies behind."""

    created_at: datetime
    id: int

    @classmethod
    def of(cls, task: Task) -> Self:
        """Return the place of a task."""
        return cls(task.created_at, task.pk)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` wrote. Raises :class:`InvalidInput`."""
        moment, _, identifier = text.partition(".")
        try:
            return cls(_EPOCH + int(moment) * _MICROSECOND, int(identifier))
        except (ValueError, OverflowError) as error:
            raise InvalidInput("This is not a place in the list.") from error

    def __str__(self) -> str:
        return f"{(self.created_at - _EPOCH) // _MICROSECOND}.{self.id}"


@dataclasses.dataclass(frozen=True, slots=True)
class Filters:
    """What a person asked for."""

    q: str = ""
    state: str = ""
    queue: str = ""
    name: str = ""
    engine: str = ""
    since: str = ""
    order: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Read the query of a URL. Raises :class:`InvalidInput` for a value that means nothing."""
        names = [field.name for field in dataclasses.fields(cls)]
        fields = {name: clean_text(given.get(name, "")).strip()[:300] for name in names}
        known = {
            "state": {*TaskState, *STATE_GROUPS},
            "since": set(WINDOWS),
            "order": {NEWEST, OLDEST},
        }
        for name, values in known.items():
            if fields[name] and fields[name] not in values:
                raise InvalidInput(f"{name} must be one of: {', '.join(sorted(values))}.")
        if fields["order"] == NEWEST:
            fields["order"] = ""
        return cls(**fields)

    @property
    def narrowing(self) -> bool:
        """Whether anything is filtered out."""
        return dataclasses.replace(self, order="") != Filters()

    @property
    def oldest_first(self) -> bool:
        """Whether the list begins with the oldest."""
        return self.order == OLDEST

    @property
    def query(self) -> str:
        """The URL's query; what is not asked for is not in it."""
        return urlencode({name: value for name, value in dataclasses.asdict(self).items() if value})

    def equals(self) -> dict[str, tuple[str, ...]]:
        """Return the values asked for, by column; the words of a search are not among them."""
        wanted: dict[str, tuple[str, ...]] = {}
        wanted |= {column: (value,) for column in ("name", "queue", "engine") if (value := getattr(self, column))}
        if self.state:
            wanted["state"] = tuple(str(state) for state in STATE_GROUPS.get(self.state, (self.state,)))
        return wanted

    def within(self, project: Project, now: datetime, after: Cursor | None) -> QuerySet[Task]:
        """Return the tasks of a project in order, those of the time asked for that lie behind a place."""
        tasks = Task.objects.filter(project=project)
        if self.since:
            tasks = tasks.filter(created_at__gte=now - WINDOWS[self.since][0])
        tasks = tasks.order_by("created_at", "id") if self.oldest_first else tasks.order_by("-created_at", "-id")
        return tasks if after is None else behind(tasks, after, ascending=self.oldest_first)


def behind(tasks: QuerySet[Task], place: Cursor, *, ascending: bool) -> QuerySet[Task]:
    """Return the tasks behind a place, in a form whose first condition an index can begin at."""
    if ascending:
        rest = Q(created_at__gt=place.created_at) | Q(id__gt=place.id)
        return tasks.filter(rest, created_at__gte=place.created_at)
    rest = Q(created_at__lt=place.created_at) | Q(id__lt=place.id)
    return tasks.filter(rest, created_at__lte=place.created_at)


def choices(project: Project) -> dict[str, Any]:
    """Return what the filter form offers."""
    names = list(TaskName.objects.filter(project=project).order_by("name")[:MAX_NAMES])
    queues = list(Queue.objects.filter(project=project).order_by("name")[:MAX_NAMES])
    return {
        "names": sorted({row.name for row in names}),
        "queues": sorted({row.name for row in queues}),
        "engines": sorted({row.engine for row in (*names, *queues)}),
        "states": [state.value for state in TaskState],
        "windows": {key: text for key, (_, text) in WINDOWS.items()},
    }
