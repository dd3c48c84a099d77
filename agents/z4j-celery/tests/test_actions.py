"""Retry and cancel in each pool: what is done, and what the answer says was verified."""

from __future__ import annotations

from typing import Any

from testbrain import until
from z4j_celery import CeleryEngineAdapter


def test_a_retry_runs_the_task_under_a_new_id_with_the_given_arguments(pool: Any) -> None:
    old = pool.send("fail")
    pool.event(old, "failed")
    result = pool.command("retry_task", old, task_name="workerapp.add", override_args=[20, 3], override_kwargs={})
    assert result.status == "success"
    assert result.result["verified"] == "published"
    new = result.result["task_id"]
    assert new != old
    assert pool.event(new, "succeeded")["result"] == "23"
    assert pool.event(new, "sent")["retry_of"] == old


def test_a_retry_without_arguments_takes_them_from_the_result_backend(pool: Any) -> None:
    old = pool.send("add", 4, kwargs={"b": 5})
    pool.event(old, "succeeded")
    until(lambda: pool.app.backend.get_task_meta(old).get("name"))
    result = pool.command("retry_task", old)
    assert result.status == "success", result.error
    assert pool.event(result.result["task_id"], "succeeded")["result"] == "9"


def test_a_retry_whose_arguments_nobody_knows_is_refused(pool: Any) -> None:
    result = pool.command("retry_task", "never-seen", task_name="workerapp.add")
    assert result.status == "failed"
    assert "arguments not known" in result.error


def test_a_waiting_task_is_revoked(pool: Any) -> None:
    task_id = pool.send("add", 1, countdown=3)
    pool.event(task_id, "received")
    result = pool.command("cancel_task", task_id)
    assert result.status == "success", result.error
    assert result.result["was"] == "pending"
    assert result.result["workers"] == [pool.event(task_id, "received")["worker"]]
    assert pool.event(task_id, "revoked")["reason"] == "revoked"
    assert ("started", 0) not in pool.story(task_id)


def test_a_running_task_is_stopped_where_the_pool_can(pool: Any) -> None:
    prefork = "prefork" in " ".join(pool.process.args)
    task_id = pool.send("slow", 30 if prefork else 1)
    pool.event(task_id, "started")
    result = pool.command("cancel_task", task_id)
    if prefork:
        assert result.status == "success", result.error
        assert (result.result["was"], result.result["terminated"]) == ("running", True)
        assert pool.event(task_id, "revoked")["reason"] == "terminated"
    else:
        assert result.status == "failed"
        assert "cannot stop" in result.error
        pool.event(task_id, "succeeded")


def test_a_finished_task_cannot_be_cancelled(pool: Any) -> None:
    task_id = pool.send("add", 1)
    pool.event(task_id, "succeeded")
    result = pool.command("cancel_task", task_id)
    assert (result.status, result.error) == ("failed", "the task has already ended (SUCCESS)")


def test_a_task_that_is_not_registered_is_not_run(pool: Any) -> None:
    for name in ("workerapp.nothing", "celery.starmap"):
        result = pool.command("retry_task", "t1", task_name=name, override_args=[], override_kwargs={})
        assert result.status == "failed"
        assert result.error == f"Z4J_POLICY=operate: the engine knows no task {name!r}"
    result = pool.command(
        "retry_task", "t1", task_name="workerapp.add", queue="nowhere", override_args=[1], override_kwargs={}
    )
    assert result.error == "Z4J_POLICY=operate: the engine knows no queue 'nowhere'"


def test_a_process_that_only_publishes_asks_the_workers_what_they_know(pool: Any) -> None:
    adapter = CeleryEngineAdapter(celery_app=pool.app)
    assert adapter.knows("task", "workerapp.add")
    assert not adapter.knows("task", "workerapp.nothing")
    assert adapter.knows("queue", pool.app.conf.task_default_queue)
    assert not adapter.knows("queue", "nowhere")
    assert not adapter.knows("worker", "anything")
