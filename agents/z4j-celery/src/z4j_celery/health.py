"""The state of the broker and of this worker, as heartbeats carry it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from celery.worker import state as worker_state
from kombu.exceptions import KombuError

from z4j_celery.control import pool_name

_TIMEOUT = 3.0
_LISTED = 100


class Health:
    """Looks at one Celery app. Opens one short connection a call; nothing that answers slowly is waited for."""

    def __init__(self, app: Callable[[], Any], worker: Callable[[], Any]) -> None:
        self._app = app
        self._worker = worker

    def report(self) -> dict[str, str]:
        """Return broker type, whether it answers, queue depths and, in a worker, what that worker does."""
        app = self._app()
        report = {"celery.broker_type": str(app.connection_for_read().transport.driver_type)}
        depths, error = self._depths(app)
        report["celery.broker_connected"] = "false" if error else "true"
        if error:
            report["celery.broker_error"] = error
        else:
            report["celery.queue_depths"] = json.dumps(depths)
        worker = self._worker()
        if worker is not None:
            report["celery.worker_details"] = json.dumps({str(worker.hostname): details(worker)})
        return report

    def _depths(self, app: Any) -> tuple[dict[str, int], str]:
        queues = list((app.amqp.queues.consume_from or app.amqp.queues).keys())
        options = dict(app.conf.broker_transport_options or {})
        if app.connection_for_read().transport.driver_type in ("redis", "valkey"):
            options |= {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT}
        depths: dict[str, int] = {}
        try:
            with app.connection_for_read(connect_timeout=_TIMEOUT, transport_options=options) as connection:
                errors = (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
                try:
                    connection.ensure_connection(max_retries=1, interval_start=0, timeout=_TIMEOUT)
                    for queue in queues[:_LISTED]:
                        depths[queue] = _depth(connection, queue)
                except errors as error:
                    return {}, f"{type(error).__name__}: {error}"[:300]
        except (OSError, KombuError) as error:
            return {}, f"{type(error).__name__}: {error}"[:300]
        return depths, ""


def _depth(connection: Any, queue: str) -> int:
    try:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        # The queue does not exist: on Redis that is how an empty one looks. The channel is closed by it.
        connection.default_channel.close()
        connection._default_channel = None
        return 0


def details(worker: Any) -> dict[str, Any]:
    """Return what a worker is and does now, in the shape of ``inspect``'s answers. Reads memory only."""
    pool = getattr(worker, "pool", None)
    info = getattr(pool, "info", None) or {}
    active = [
        {
            "id": request.id,
            "name": request.type,
            "worker_pid": request.worker_pid,
            "time_start": None
            if not request.time_start
            else datetime.fromtimestamp(request.time_start, UTC).isoformat(),
        }
        for request in list(worker_state.active_requests)[:_LISTED]
    ]
    uptime = (datetime.now(UTC) - worker.startup_time).total_seconds()
    prefetch = getattr(getattr(getattr(worker, "consumer", None), "qos", None), "value", None)
    return {
        "stats": {
            "pid": os.getpid(),
            "uptime": round(uptime),
            "pool": {
                "name": pool_name(worker),
                "max-concurrency": info.get("max-concurrency", getattr(pool, "limit", None)),
                "processes": list(info.get("processes") or [])[:_LISTED],
            },
            "prefetch_count": prefetch,
            "total": dict(worker_state.total_count.most_common(_LISTED)),
        },
        "active": active,
        "active_count": len(worker_state.active_requests),
        "reserved_count": len(worker_state.reserved_requests),
        "active_queues": [{"name": str(name)} for name in list(worker.app.amqp.queues.consume_from)[:_LISTED]],
    }
