"""The Celery app of the journey tests: run by real workers, with our agent inside."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery
from z4j_bare import install_agent
from z4j_celery import CeleryEngineAdapter

app = Celery("journey", broker=os.environ["BROKER"])
app.conf.update(task_default_queue="journey", task_ignore_result=True, broker_connection_retry_on_startup=True)


def note(line: str) -> None:
    """Write down, outside the system under test, what really ran."""
    with Path(os.environ["JOURNAL"]).open("a") as journal:
        journal.write(line + "\n")


@app.task(name="journey.work")
def work(number: int, **options: object) -> int:
    """Succeed, or fail for every tenth number."""
    note(f"work {number} {sorted(options.items())}")
    if number % 10 == 9:
        raise ValueError(f"number {number} is not wanted")
    return number


@app.task(name="journey.flaky", bind=True, max_retries=5)
def flaky(self, number: int) -> int:
    """Succeed at the third attempt."""
    note(f"flaky {number} {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0.2, exc=OSError("not yet"))
    return number


@app.task(name="journey.sleep")
def sleep(seconds: float) -> None:
    """Take some time."""
    note("sleep")
    time.sleep(seconds)


install_agent(engines=[CeleryEngineAdapter(celery_app=app)])
