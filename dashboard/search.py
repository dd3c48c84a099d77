"""Finds the tasks a person asked for, whatever was asked at a bounded cost.

What one index has in order is :class:`Ordered`: it is read from the index. Anything else is :class:`Walked`: the index
that reaches furthest back with as many tasks leads, and its tasks are compared one by one with the rest of what was
asked for, until enough were looked through or time is up. The page says how far that was; the next one goes on there.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime

from django.db.models import BooleanField, Case, Count, Q, QuerySet, Value, When

from brain.models import Project, Queue, Task, TaskName
from dashboard.filters import MAX_NAMES, Cursor, Filters, behind

#: Tasks one page looks through at most, and in one step.
LOOKED_THROUGH, STEP = 10_000, 500
#: No further step is begun after so many seconds.
SECONDS = 0.02
#: Tasks found by comparing are not counted beyond this.
FOUND_CAP = 1_000
#: So many values of a column are walked one by one and merged; more are looked up together.
MAX_WALKS = 10
#: Engines in which a task's id is looked for.
MAX_ENGINES = 50

Key = tuple[datetime, int]
Columns = Callable[[QuerySet[Task]], QuerySet[Task]]


@dataclasses.dataclass(frozen=True, slots=True)
class Lead:
    """An index that has tasks in order: those whose ``column`` has one of ``values``; all of a project without one."""

    column: str = ""
    values: tuple[str, ...] = ()

    @property
    def walkable(self) -> bool:
        """Whether its values are few enough to be walked one by one."""
        return len(self.values) <= MAX_WALKS

    @property
    def share(self) -> int:
        """How many tasks of each value are looked at in one step."""
        return max(1, STEP // max(1, len(self.values)))

    def parts(self, tasks: QuerySet[Task]) -> list[QuerySet[Task]]:
        """Return the tasks value by value."""
        return [tasks.filter(**{self.column: value}) for value in self.values] if self.column else [tasks]

    def whole(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        """Return the tasks of all values."""
        return tasks.filter(**{f"{self.column}__in": self.values}) if self.column else tasks


@dataclasses.dataclass(frozen=True, slots=True)
class Ordered:
    """Tasks an index has in order, to the end."""

    lead: Lead
    tasks: QuerySet[Task]
    descending: bool
    reach: Cursor | None = None

    def first(self, columns: Columns, limit: int) -> list[Task]:
        """Return the first tasks. No index has those of several values in order, so these are merged."""
        if len(self.lead.values) <= 1:
            return list(self.lead.whole(columns(self.tasks))[:limit])
        keys = [key for part in self.lead.parts(self.tasks) for key in part.values_list("created_at", "id")[:limit]]
        return _fetch(sorted(keys, reverse=self.descending)[:limit], columns)

    def count(self, cap: int) -> int:
        """Return how many there are, at most one more than ``cap``."""
        # In the order of the index, so that it is the index that is read, however much of the table has the value.
        return min(cap + 1, sum(part[: cap + 1].count() for part in self.lead.parts(self.tasks)))

    def newer(self, top: int) -> int:
        """Return how many of the foremost ones have a key greater than ``top``."""
        foremost = (part.values("id")[:LOOKED_THROUGH] for part in self.lead.parts(self.tasks))
        return sum(part.aggregate(newer=Count("id", filter=Q(id__gt=top)))["newer"] for part in foremost)


@dataclasses.dataclass(frozen=True, slots=True)
class Walked:
    """Tasks found by comparing; ``reach`` is the last place that was looked at, None at the end of all."""

    keys: list[Key]
    reach: Cursor | None = None

    def first(self, columns: Columns, limit: int) -> list[Task]:
        """Return the first tasks."""
        return _fetch(self.keys[:limit], columns)

    def count(self, cap: int) -> int:
        """Return how many were found, at most one more than ``cap``."""
        return min(len(self.keys), cap + 1)

    def newer(self, top: int) -> int:
        """Return how many of the found ones have a key greater than ``top``."""
        return sum(key > top for _, key in self.keys)


Search = Ordered | Walked


def search(project: Project, filters: Filters, now: datetime, after: Cursor | None = None) -> Search:
    """Return what was asked for, behind a place of the list."""
    tasks, wanted, descending = filters.within(project, now, after), filters.equals(), not filters.oldest_first
    if filters.q:
        ids = _with_id(project, filters.q)
        if ids:
            exact = {f"{column}__in": values for column, values in wanted.items()}
            return Ordered(Lead(), tasks.filter(id__in=ids, **exact), descending)
        called = _called(project, filters.q)
        wanted["name"] = tuple(name for name in called if filters.name in {"", name})
    if not all(wanted.values()):
        return Walked([])
    leads = [Lead(column, values) for column, values in wanted.items() if column != "engine"] or [Lead()]
    if len(wanted) <= 1 and "engine" not in wanted and leads[0].walkable:
        return Ordered(leads[0], tasks, descending)
    if filters.engine and "name" not in wanted:
        names = _names_of(project, filters.engine)
        leads += [Lead("name", names)] if names else []
    lead = _furthest([*leads, Lead()], tasks, descending)
    matches = _matches(wanted)
    if not lead.walkable:
        found = lead.whole(tasks.filter(matches)).order_by().values_list("created_at", "id")
        return Walked(sorted(found, reverse=descending))
    return _walk(lead, tasks, matches, descending)


def _fetch(keys: list[Key], columns: Columns) -> list[Task]:
    ids = [key for _, key in keys]
    found = {task.pk: task for task in columns(Task.objects.filter(id__in=ids).order_by())}
    return [found[key] for key in ids if key in found]


def _with_id(project: Project, task_id: str) -> list[int]:
    """Return the keys of the tasks with an id, whatever their engines."""
    seen = (TaskName.objects.filter(project=project), Queue.objects.filter(project=project))
    told = (rows.order_by().values_list("engine", flat=True).distinct()[:MAX_ENGINES] for rows in seen)
    engines = sorted({name for names in told for name in names})
    found = Task.objects.filter(project=project, engine__in=engines, task_id=task_id).order_by()
    return list(found.values_list("id", flat=True)[:20])


def _called(project: Project, words: str) -> list[str]:
    """Return the task names that contain something."""
    names = TaskName.objects.filter(project=project, name__icontains=words).order_by()
    return sorted(set(names.values_list("name", flat=True)[:MAX_NAMES]))


def _names_of(project: Project, engine: str) -> tuple[str, ...]:
    """Return the names tasks of an engine may have, nothing when they are too many to look under each.

    A task whose name was not told has an empty one.
    """
    rows = TaskName.objects.filter(project=project, engine=engine).order_by()
    names = set(rows.values_list("name", flat=True)[: MAX_NAMES + 1])
    return ("", *sorted(names)) if len(names) <= MAX_NAMES else ()


def _furthest(leads: list[Lead], tasks: QuerySet[Task], descending: bool) -> Lead:
    """Return the lead whose first tasks reach furthest; one that has few tasks at all reaches to the end."""
    reached: list[tuple[Key, Lead]] = []
    for lead in leads:
        if not lead.walkable:
            together = lead.whole(tasks).order_by(lead.column, "-created_at", "-id")
            if together[: LOOKED_THROUGH + 1].count() <= LOOKED_THROUGH:
                return lead
            continue
        share = lead.share
        ends = [part.values_list("created_at", "id")[share - 1 : share] for part in lead.parts(tasks)]
        places = [end for part in ends for end in part]
        if not places:
            return lead
        reached.append(((max if descending else min)(places), lead))
    return (min if descending else max)(reached, key=lambda pair: pair[0])[1]


def _matches(wanted: dict[str, tuple[str, ...]]) -> Case:
    """Return whether a task is what was asked for.

    Within CASE a condition takes no index and no statistics: the lead is walked in its order, whatever these say.
    """
    same = When(Q(**{f"{column}__in": values for column, values in wanted.items()}), then=Value(True))
    return Case(same, default=Value(False), output_field=BooleanField())


def _walk(lead: Lead, tasks: QuerySet[Task], matches: Case, descending: bool) -> Walked:
    """Look through the tasks of a lead step by step."""
    end, looked, keys = time.monotonic() + SECONDS, 0, list[Key]()
    place: Cursor | None = None
    while True:
        following = tasks if place is None else behind(tasks, place, ascending=not descending)
        step, place = _step(lead, following, matches, descending)
        keys += sorted(step, reverse=descending)
        looked += STEP
        if place is None or looked >= LOOKED_THROUGH or len(keys) > FOUND_CAP or time.monotonic() > end:
            return Walked(keys, place)


def _step(lead: Lead, tasks: QuerySet[Task], matches: Case, descending: bool) -> tuple[list[Key], Cursor | None]:
    """Return what matches of the next tasks of a lead, and how far these go; None: to the end."""
    share = lead.share
    parts = [list(part.values_list("created_at", "id", matches)[:share]) for part in lead.parts(tasks)]
    ends = [part[-1][:2] for part in parts if len(part) == share]
    nearest = (max if descending else min)(ends, default=None)
    found = [(moment, key) for part in parts for moment, key, same in part if same]
    if nearest is None:
        return found, None
    return [key for key in found if key == nearest or (key > nearest) == descending], Cursor(*nearest)
