"""The Celery app of the worker tests. Broker and agent come from the environment."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery
from celery.exceptions import Reject, SoftTimeLimitExceeded
from z4j_bare import install_agent
from z4j_celery import CeleryEngineAdapter


class Boom(Exception):
    """Has a message of two lines."""


app = Celery("workerapp", broker=os.environ["TEST_BROKER"], backend=os.environ["TEST_BROKER"])
app.conf.update(
    task_default_queue=os.environ["TEST_QUEUE"],
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    result_extended=True,
)
runtime = install_agent(engines=[CeleryEngineAdapter(celery_app=app)])


@app.task
def add(a: int, b: int = 0, **_: Any) -> int:
    return a + b


@app.task
def fail() -> None:
    raise Boom("it\nbroke")


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def again(self: Any) -> str:
    if self.request.retries < 2:
        raise self.retry(exc=ValueError("not yet"))
    return "at last"


@app.task
def spawn(size: int = 1) -> str:
    return str(add.delay(1, 2, text="x" * size).id)


@app.task
def slow(seconds: float) -> None:
    time.sleep(seconds)


@app.task(acks_late=True)
def reject() -> None:
    raise Reject("no", requeue=False)


@app.task
def die() -> None:
    os._exit(3)


@app.task(time_limit=1)
def hang() -> None:
    time.sleep(60)


@app.task(soft_time_limit=1, time_limit=10)
def publish_until_interrupted() -> str:
    published = 0
    try:
        while True:
            add.apply_async((1,), queue="nobody", expires=60)
            published += 1
    except SoftTimeLimitExceeded:
        return f"interrupted after {published}"
