"""The hooks: Celery's signals, and taps on the worker's event dispatcher and on the two signals of publishing.

Every task event of a worker is made in its main process by ``EventDispatcher.send``, whether or not anything is
published (``-E``). The tap copies what is made there and forwards the call unchanged.

A task publishes in the middle of its own code, where a soft time limit may interrupt it. Celery swallows what a
receiver raises, so these two hooks run beside their signals' ``send`` and not inside it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from celery import signals
from celery.events.dispatcher import EventDispatcher
from z4j_core.adapters import Sink
from z4j_core.events import EventKind, TaskEvent
from z4j_core.safety import safe_boundary

from z4j_celery import mapping
from z4j_celery.childpipe import ChildPipe
from z4j_celery.lives import Attempt, Lives

_SIGNALS = (
    "before_task_publish",
    "after_task_publish",
    "worker_init",
    "worker_ready",
    "worker_shutdown",
    "worker_process_shutdown",
    "beat_init",
    "task_received",
    "task_failure",
    "task_revoked",
    "task_unknown",
)
_PUBLISHING = ("before_task_publish", "after_task_publish")


class Capture:
    """Observes one process tree: a client, or a worker's main process with its children."""

    def __init__(self, engine: str, sink: Sink) -> None:
        self.worker: Any = None
        self.consumer: Any = None
        self._engine = engine
        self._sink = sink
        self._lives = Lives()
        self._local = threading.local()
        self._pipe: ChildPipe | None = None
        self._worker_pid = 0
        self._original_send: Callable[..., Any] | None = None
        self._signal_taps: dict[str, Callable[..., Any]] = {}
        #: Task events were switched on for the worker only so that the tap sees them.
        self.forced_events = False

    # -- installing ---------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Connect the signals and the tap."""
        for name in _SIGNALS:
            getattr(signals, name).connect(getattr(self, f"_on_{name}"), weak=False, dispatch_uid=f"z4j-{name}")
        for name in _PUBLISHING:
            self._tap_signal(name)
        self._install_tap()

    def uninstall(self) -> None:
        """Undo :meth:`install`; a tap that something else has wrapped since stays, and does nothing."""
        for name in _SIGNALS:
            getattr(signals, name).disconnect(dispatch_uid=f"z4j-{name}")
        for name, tap in self._signal_taps.items():
            signal = getattr(signals, name)
            if vars(signal).get("send") is tap:
                del signal.send
        self._signal_taps.clear()  # the same dict: the taps themselves look into it
        if self._original_send is not None and getattr(EventDispatcher.send, "z4j_tap", None) is self:
            EventDispatcher.send = self._original_send
        self._original_send = None

    def _install_tap(self) -> None:
        original = self._original_send = EventDispatcher.send
        capture = self

        @functools.wraps(original)
        def send(dispatcher: Any, type: str, *args: Any, **fields: Any) -> Any:
            forward = True
            if capture._original_send is not None:
                with safe_boundary("celery.event"):
                    forward = capture._observe(type, fields)
            return original(dispatcher, type, *args, **fields) if forward else None

        send.z4j_tap = self  # type: ignore[attr-defined]
        EventDispatcher.send = send

    def _tap_signal(self, name: str) -> None:
        signal, hook = getattr(signals, name), getattr(self, f"_publishing_{name}")
        original, own = signal.send, signal.receivers
        local, taps = self._local, self._signal_taps

        @functools.wraps(original)
        def send(sender: Any, **named: Any) -> Any:
            if name not in taps:  # uninstalled, but an app has kept this function
                return original(sender, **named)
            local.tapped = True
            try:
                # With our receiver alone there is nothing to call, and no place where an interrupt is swallowed.
                responses = original(sender, **named) if len(own) > 1 else []
            finally:
                local.tapped = False
            hook(sender=sender, **named)
            return responses

        taps[name] = signal.send = send

    # -- publishing ---------------------------------------------------------------------------------------------------

    # The receivers serve an app that has kept the ``send`` of before the tap; a tapped signal leaves them idle.

    def _on_before_task_publish(self, **kwargs: Any) -> None:
        if not getattr(self._local, "tapped", False):
            self._publishing_before_task_publish(**kwargs)

    def _on_after_task_publish(self, **kwargs: Any) -> None:
        if not getattr(self._local, "tapped", False):
            self._publishing_after_task_publish(**kwargs)

    def _publishing_before_task_publish(self, **kwargs: Any) -> None:
        with safe_boundary("celery.before_publish"):
            # Before and not after: a worker may have the task before the publisher's call returns.
            self._local.publishing = (datetime.now(UTC), kwargs.get("properties"), kwargs.get("declare"))

    def _publishing_after_task_publish(self, sender: Any = None, **kwargs: Any) -> None:
        with safe_boundary("celery.sent"):
            began, properties, declare = getattr(self._local, "publishing", None) or (datetime.now(UTC), None, None)
            self._local.publishing = None
            headers, body = kwargs.get("headers") or {}, kwargs.get("body")
            task_id = headers.get("id")
            if not isinstance(task_id, str):
                return
            queue = kwargs.get("routing_key") or None
            if kwargs.get("exchange"):
                queue = getattr(declare[0], "name", queue) if declare else queue
            priority = (properties or {}).get("priority")
            data = mapping.sent(str(sender or headers.get("task")), headers, body, queue=queue, priority=priority)
            self._emit(EventKind.SENT, task_id, data, began)

    # -- the worker's life --------------------------------------------------------------------------------------------

    def _on_worker_init(self, sender: Any = None, **_: Any) -> None:
        with safe_boundary("celery.worker_init"):
            self.worker = sender
            self._worker_pid = os.getpid()
            if self._pipe is None and hasattr(os, "fork"):
                self._pipe = ChildPipe(self._sink)
            options = getattr(sender, "options", {})
            quiet = options.get("without_gossip") and options.get("without_heartbeat")
            if quiet and not sender.task_events:
                # Otherwise the dispatcher is disabled and not even called. The worker's own attribute, no setting.
                self.forced_events = sender.task_events = True

    def _on_worker_ready(self, sender: Any = None, **_: Any) -> None:
        with safe_boundary("celery.worker_ready"):
            self.consumer = sender
            if self.forced_events:
                # From here on the dispatcher itself keeps task events from being published, as in any worker.
                sender.event_dispatcher.groups = {"worker"}
            if self._pipe is not None:
                self._pipe.start()
            self._sink.ensure_running("task")

    def _on_worker_shutdown(self, **_: Any) -> None:
        with safe_boundary("celery.worker_shutdown"):
            if self.in_worker():
                if self._pipe is not None:
                    self._pipe.drain()
                self._sink.drain()

    def _on_worker_process_shutdown(self, **_: Any) -> None:
        with safe_boundary("celery.child_shutdown"):
            if self._pipe is not None and not self.in_worker():
                self._pipe.finish()

    def _on_beat_init(self, **_: Any) -> None:
        with safe_boundary("celery.beat_init"):
            self._sink.ensure_running("beat")

    def in_worker(self) -> bool:
        """Tell whether this process is the main process of a worker."""
        return self._worker_pid == os.getpid()

    # -- tasks in the worker's main process ---------------------------------------------------------------------------

    def _on_task_received(self, request: Any = None, **_: Any) -> None:
        with safe_boundary("celery.received"):
            queue = self._queue_of(request.delivery_info or {})
            data = mapping.received(request, queue)
            self._lives.received(request.id, Attempt(data["task_name"], queue, data["attempt"]))
            self._emit(EventKind.RECEIVED, request.id, data)

    def _on_task_failure(self, task_id: Any = None, exception: Any = None, **_: Any) -> None:
        with safe_boundary("celery.failure"):
            attempt = self._lives.running(task_id) if self.in_worker() else None
            if attempt is not None:
                kind = type(exception)
                builtin = kind.__module__ == "builtins"
                attempt.exception = kind.__qualname__ if builtin else f"{kind.__module__}.{kind.__qualname__}"

    def _on_task_revoked(self, sender: Any = None, request: Any = None, **kwargs: Any) -> None:
        with safe_boundary("celery.revoked"):
            if not self.in_worker():
                return
            attempt, _ = self._lives.ended(request.id, "revoked")
            if attempt is None:
                # Revoked before it was received: the context is all there is.
                queue = self._queue_of(getattr(request, "delivery_info", None) or {})
                attempt = Attempt(str(getattr(sender, "name", "")), queue, getattr(request, "retries", 0) or 0)
            reason = "expired" if kwargs.get("expired") else "terminated" if kwargs.get("terminated") else "revoked"
            self._tell(EventKind.REVOKED, request.id, attempt, {"reason": reason})

    def _on_task_unknown(self, name: Any = None, id: Any = None, message: Any = None, **_: Any) -> None:
        with safe_boundary("celery.unknown"):
            delivery = getattr(message, "delivery_info", None) or {}
            attempt = Attempt(str(name), self._queue_of(delivery), mapping.attempt_of(message.headers or {}))
            exception = "celery.exceptions.NotRegistered"
            data = {"exception": exception, "exception_message": f"the worker knows no task {name!r}"}
            self._tell(EventKind.FAILED, id, attempt, data)

    def _observe(self, type: str, fields: dict[str, Any]) -> bool:
        """Take an event of the dispatcher; tell whether it may be forwarded."""
        kind = mapping.KINDS.get(type)
        if kind is not None and self.in_worker():
            task_id = fields.get("uuid")
            if isinstance(task_id, str):
                self._on_dispatched(kind, task_id, fields)
        # Before the worker is ready nothing else keeps these from the broker.
        return not (self.forced_events and self.consumer is None and type.startswith("task-"))

    def _on_dispatched(self, kind: EventKind, task_id: str, fields: dict[str, Any]) -> None:
        if kind is EventKind.STARTED:
            attempt = self._lives.started(task_id)
        else:
            attempt, told = self._lives.ended(task_id, kind.rpartition(".")[2])
            if told and kind is not EventKind.REJECTED:
                return  # a hard time limit is told twice
            if attempt is None and str(fields.get("exception", "")).startswith("NotRegistered("):
                return  # the signal of an unknown task follows and knows its name
        if kind is EventKind.FAILED and attempt is not None and attempt.exception:
            # For a lost worker and a time limit Celery's text names a wrapper; the signal had the exception.
            fields = fields | {"exception": f"{attempt.exception}()"}
        data = mapping.outcome(kind, fields)
        self._tell(kind, task_id, attempt, data)

    def _tell(self, kind: EventKind, task_id: str, attempt: Attempt | None, data: dict[str, Any]) -> None:
        known: dict[str, Any] = {}
        if attempt is not None:
            known = {"task_name": attempt.name, "attempt": attempt.number}
            if attempt.queue:
                known["queue"] = attempt.queue
        self._emit(kind, task_id, known | data)

    def _queue_of(self, delivery: dict[str, Any]) -> str | None:
        exchange, key = delivery.get("exchange"), delivery.get("routing_key")
        queues = getattr(getattr(getattr(self.worker, "app", None), "amqp", None), "queues", None) or {}
        if exchange and key not in queues:
            for name, queue in queues.items():
                if queue.exchange and queue.exchange.name == exchange and queue.routing_key == key:
                    return str(name)
        return key or None

    def _emit(self, kind: EventKind, task_id: str, data: dict[str, Any], at: datetime | None = None) -> None:
        if self.in_worker() and kind is not EventKind.SENT:
            data["worker"] = str(self.worker.hostname)
        event = TaskEvent(
            kind=kind, engine=self._engine, task_id=task_id, occurred_at=at or datetime.now(UTC), data=data
        )
        if self._pipe is not None and not self.in_worker():
            self._pipe.send(event)
        else:
            self._sink.record_event(event)
