"""Periodic jobs: a registry, and a claim row in the database so that one of many brains runs each turn."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from audit import checkpoints
from brain import agents, commands, live, partitions, retention
from brain.models import Job

logger = logging.getLogger("z4j.jobs")

#: Seconds between two looks for due jobs.
TICK = 1.0
LEASE = timedelta(minutes=5)
#: An agent that was silent for this long is shown as offline; three heartbeats of 30 s and some.
SILENCE = timedelta(seconds=100)
#: How long a process that is gone stays on the agents page.
OFFLINE_KEPT = timedelta(days=7)


@dataclasses.dataclass(frozen=True, slots=True)
class Periodic:
    """A job and how often it runs."""

    name: str
    every: timedelta
    run: Callable[[], object]


REGISTRY: dict[str, Periodic] = {}


def job(*, every: float) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Register a function to be run every ``every`` seconds. It must be safe to run twice."""

    def register(function: Callable[[], object]) -> Callable[[], object]:
        REGISTRY[function.__name__] = Periodic(function.__name__, timedelta(seconds=every), function)
        return function

    return register


@job(every=30)
def mark_silent_agents() -> int:
    """Show agents as offline that were not heard of for a while."""
    return agents.sweep(SILENCE)


@job(every=5)
def end_overdue_commands() -> int:
    """Expire commands that nobody took, and call those unknown whose result did not come."""
    return commands.expire()


@job(every=5)
def sign_audit_checkpoints() -> int:
    """Have the audit log's state signed and anchored, where that is due."""
    return checkpoints.make_due()


@job(every=5)
def wake_agents_with_commands() -> None:
    """Cover wake-ups that were lost on the channel layer."""
    for agent_id in commands.agents_to_wake():
        live.wake_agent(agent_id)


@job(every=3600)
def keep_partitions() -> int:
    """Create event partitions ahead, and those that events in the default one belong to."""
    return len(partitions.create_ahead()) + len(partitions.empty_default())


@job(every=3600)
def remove_expired() -> int:
    """Remove what is past its project's retention."""
    return retention.remove_expired().total


@job(every=3600)
def forget_old_processes() -> int:
    """Remove agent processes that have been offline for a week: each restart of a worker makes a new one."""
    return agents.forget(OFFLINE_KEPT)


def register_jobs() -> None:
    """Make sure every job has its claim row; a new one is due at once."""
    now = timezone.now()
    Job.objects.bulk_create([Job(name=name, next_at=now) for name in REGISTRY], ignore_conflicts=True)


def run_due(owner: str) -> list[str]:
    """Run the jobs that are due and not taken; return their names."""
    due = set(Job.objects.filter(next_at__lte=timezone.now()).values_list("name", flat=True))
    return [periodic.name for periodic in REGISTRY.values() if periodic.name in due and _run_one(periodic, owner)]


def _run_one(periodic: Periodic, owner: str) -> bool:
    now = timezone.now()
    free = Q(lease_until=None) | Q(lease_until__lte=now)
    claimed = Job.objects.filter(free, name=periodic.name, next_at__lte=now).update(
        lease_until=now + LEASE, owner=owner
    )
    if not claimed:
        return False
    error = ""
    try:
        periodic.run()
    except Exception as problem:
        logger.exception("job %s failed", periodic.name)
        error = str(problem)[:2000]
    Job.objects.filter(name=periodic.name, owner=owner).update(
        next_at=timezone.now() + periodic.every, lease_until=None, last_error=error
    )
    return True


class JobThread:
    """Runs due jobs on a thread of the server."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="z4j-jobs", daemon=True)
        self._owner = f"{socket.gethostname()}-{os.getpid()}"

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """End the thread after the job it runs."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        registered = False
        try:
            while not self._stop.wait(TICK):
                try:
                    if not registered:
                        register_jobs()
                        registered = True
                    run_due(self._owner)
                except Exception:
                    logger.exception("cannot run jobs")
                    connection.close()
        finally:
            connection.close()
