"""Retry and cancel: what is asked of Celery, and what of its answer is verified."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

from celery import states
from celery.worker import state as worker_state
from kombu.exceptions import OperationalError
from z4j_core.actions import Command
from z4j_core.errors import ActionFailed

_REPLY_SECONDS = 1.0
_POLL_SECONDS = 0.05
#: Pools whose running tasks Celery can stop.
_TERMINATING = ("prefork", "gevent", "eventlet", "processes")


class Control:
    """Carries out commands on one Celery app, on a thread of the agent's."""

    def __init__(self, app: Callable[[], Any], worker: Callable[[], Any]) -> None:
        self._app = app
        self._worker = worker

    # -- what the engine knows ----------------------------------------------------------------------------------------

    def knows(self, kind: str, name: str) -> bool:
        """Tell whether this app, or a worker that answers within a second, has a task or a queue of this name."""
        app = self._app()
        if kind == "task":
            # Celery's own (celery.map, celery.starmap, ...) run whatever task their arguments name.
            return not name.startswith("celery.") and (name in app.tasks or self._registered_elsewhere(name))
        if kind == "queue":
            return name in app.amqp.queues or self._consumed_elsewhere(name)
        return False

    def _registered_elsewhere(self, name: str) -> bool:
        answers = self._app().control.inspect(timeout=_REPLY_SECONDS).registered() or {}
        # A task with a rate limit or other extras is told as "name [extras]".
        return any(name == told.partition(" [")[0] for tasks in answers.values() for told in tasks)

    def _consumed_elsewhere(self, name: str) -> bool:
        answers = self._app().control.inspect(timeout=_REPLY_SECONDS).active_queues() or {}
        return any(name == queue.get("name") for queues in answers.values() for queue in queues)

    # -- retry --------------------------------------------------------------------------------------------------------

    def retry(self, command: Command) -> dict[str, Any]:
        """Publish the task again under a new id. Raises :class:`ActionFailed` when its arguments are not known."""
        given = command.parameters
        name, args, kwargs, queue = self._what_to_send(command)
        eta = given.get("eta")
        try:
            moment = datetime.fromisoformat(eta) if eta else None
        except ValueError:
            raise ActionFailed(f"eta {eta!r} is not an ISO 8601 time") from None
        new_id = str(uuid4())
        options = {"queue": queue, "eta": moment, "priority": given.get("priority")}
        try:
            self._app().send_task(
                name,
                args=args,
                kwargs=kwargs,
                task_id=new_id,
                headers={"z4j_retry_of": given["task_id"]},
                **{key: value for key, value in options.items() if value is not None},
            )
        except (OperationalError, OSError) as error:
            raise ActionFailed(f"the broker did not take the task: {error}") from error
        return {"task_id": new_id, "verified": "published"}

    def complete(self, command: Command) -> Command:
        """Return a retry with arguments, name and queue from the result backend, where it came without arguments.

        Raises :class:`ActionFailed` when the backend has none either.
        """
        given = command.parameters
        if given.get("override_args") is not None or given.get("override_kwargs") is not None:
            return command
        stored = self._stored(given["task_id"])
        if not isinstance(stored.get("args"), list | tuple) or not isinstance(stored.get("kwargs"), dict):
            raise ActionFailed("arguments not known: they were not captured, and the result backend has none")
        found = {
            "override_args": list(stored["args"]),
            "override_kwargs": stored["kwargs"],
            "task_name": given.get("task_name") or stored.get("name"),
            "queue": given.get("queue") or stored.get("queue"),
        }
        return dataclasses.replace(command, parameters={**given, **found})

    def _what_to_send(self, command: Command) -> tuple[str, list[Any], dict[str, Any], str | None]:
        given = command.parameters
        args, kwargs = given.get("override_args"), given.get("override_kwargs")
        name, queue = given.get("task_name"), given.get("queue")
        if not name:
            raise ActionFailed("the task's name is not known")
        return name, args or [], kwargs or {}, queue

    def _stored(self, task_id: str) -> dict[str, Any]:
        meta = self._app().backend.get_task_meta(task_id)
        return meta if isinstance(meta, dict) else {}

    # -- cancel -------------------------------------------------------------------------------------------------------

    def cancel(self, command: Command) -> dict[str, Any]:
        """Revoke the task, and stop it when it runs. Returns what was found, done and verified."""
        task_id = command.parameters["task_id"]
        deadline = time.monotonic() + min(command.timeout_seconds, 30.0) * 0.8
        finished = self._finished(task_id)
        if finished:
            raise ActionFailed(f"the task has already ended ({finished})")
        here = self._here(task_id)
        if here == "active" and self._pool_name() == "solo":
            raise ActionFailed("the task is running in a solo pool: Celery cannot stop it there")
        places = self._places(task_id) if here != "active" else {self._hostname(): "active"}
        running = [host for host, state in places.items() if state == "active"]
        if running and command.parameters.get("terminate", True):
            return self._terminate(task_id, running[0], deadline)
        if running:
            raise ActionFailed(f"the task is running on {running[0]} and terminating it was not asked for")
        return self._revoke(task_id, places, deadline)

    def _revoke(self, task_id: str, places: dict[str, str], deadline: float) -> dict[str, Any]:
        replies = self._app().control.revoke(task_id, reply=True, timeout=_REPLY_SECONDS) or []
        hosts = sorted(host for reply in replies for host, answer in reply.items() if "ok" in answer)
        # A busy solo or starting worker answers nobody; its own memory tells when it has heard.
        in_worker = not hosts and self._worker() is not None
        if in_worker and self._wait(lambda: task_id in worker_state.revoked, deadline):
            hosts = [self._hostname()]
        if not hosts:
            raise ActionFailed(
                "no worker answered, so nothing is known to be cancelled: revoked ids live in workers only"
            )
        finished = self._finished(task_id)
        if finished and finished != states.REVOKED:
            raise ActionFailed(f"the task ended meanwhile ({finished})")
        waited = ", ".join(f"{state} on {host}" for host, state in sorted(places.items())) or "waiting in its queue"
        return {
            "was": "pending",
            "found": waited,
            "workers": hosts,
            "verified": f"{len(hosts)} worker(s) confirmed that they will discard the task",
        }

    def _terminate(self, task_id: str, host: str, deadline: float) -> dict[str, Any]:
        pool = self._pool_of(host)
        if not any(kind in pool for kind in _TERMINATING):
            raise ActionFailed(
                f"the task is running on {host}, whose pool ({pool or 'unknown'}) cannot stop a running task"
            )
        self._app().control.revoke(
            task_id, terminate=True, signal="SIGTERM", destination=[host], reply=True, timeout=_REPLY_SECONDS
        )
        if not self._wait(lambda: self._state_on(host, task_id) != "active", deadline):
            raise ActionFailed(f"the task was told to stop and still runs on {host}")
        ended = self._finished(task_id)
        if ended and ended != states.REVOKED:
            raise ActionFailed(f"the task ended by itself before it could be stopped ({ended})")
        return {
            "was": "running",
            "workers": [host],
            "terminated": True,
            "verified": f"{host} no longer runs the task" + (f"; its result is {ended}" if ended else ""),
        }

    # -- looking ------------------------------------------------------------------------------------------------------

    def _finished(self, task_id: str) -> str | None:
        """Return the final state the result backend knows, ``None`` when it has none or there is no backend."""
        try:
            state = self._app().backend.get_state(task_id)
        except (NotImplementedError, AttributeError, OSError, OperationalError):
            return None
        return str(state) if state in states.READY_STATES else None

    def _here(self, task_id: str) -> str | None:
        """Return the task's state in this very worker, without asking the broker."""
        request = worker_state.requests.get(task_id) if self._worker() is not None else None
        if request is None:
            return None
        return "active" if request in worker_state.active_requests else "reserved"

    def _places(self, task_id: str, host: str | None = None) -> dict[str, str]:
        limit = {"destination": [host], "limit": 1} if host else {}
        found = self._app().control.inspect(timeout=_REPLY_SECONDS, **limit).query_task(task_id) or {}
        return {name: info[task_id][0] for name, info in found.items() if isinstance(info, dict) and task_id in info}

    def _state_on(self, host: str, task_id: str) -> str | None:
        return self._here(task_id) if host == self._hostname() else self._places(task_id, host).get(host)

    def _hostname(self) -> str:
        return str(getattr(self._worker(), "hostname", ""))

    def _pool_name(self) -> str:
        return pool_name(self._worker())

    def _pool_of(self, host: str) -> str:
        if host == self._hostname():
            return self._pool_name()
        stats = self._app().control.inspect(timeout=_REPLY_SECONDS, destination=[host], limit=1).stats() or {}
        return str(((stats.get(host) or {}).get("pool") or {}).get("implementation", ""))

    @staticmethod
    def _wait(condition: Callable[[], bool], deadline: float) -> bool:
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def pool_name(worker: Any) -> str:
    """Return the last part of a worker's pool module: prefork, threads, solo, gevent; empty without a worker."""
    kind = type(getattr(worker, "pool", None))
    module = kind.__module__.rpartition(".")[2]
    return {"thread": "threads"}.get(module, module) if worker is not None else ""
