"""The one obvious way in: configuration plus adapters make a started runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from z4j_core.adapters import EngineAdapter, FrameworkAdapter, SchedulerAdapter
from z4j_core.errors import ConfigError
from z4j_core.safety import logger, safe_boundary

from z4j_bare.config import examine
from z4j_bare.inert import InertRuntime
from z4j_bare.runtime import AgentRuntime


class BareFrameworkAdapter(FrameworkAdapter):
    """The framework adapter of a process without a framework."""


def install_agent(
    *,
    engines: Sequence[EngineAdapter] = (),
    schedulers: Sequence[SchedulerAdapter] = (),
    framework: FrameworkAdapter | None = None,
    **options: Any,
) -> AgentRuntime:
    """Install the agent and return its runtime, started unless ``autostart=False``.

    Every option may also be given as ``Z4J_<NAME>`` in the environment; the keyword wins, then the environment, then
    the framework's settings.

    Required: ``brain_url`` (https://…), ``token``.

    Optional: ``hmac_secret`` (URL-safe base64; derived from the token when absent), ``project_id``, ``agent_name``,
    ``agent_id``, ``environment``, ``release``, ``tags`` (mapping), ``transport`` ("auto" or "websocket"),
    ``dev_mode`` (allows ws:// to other hosts), ``strict_mode`` (raise instead of standing aside), ``autostart``,
    ``buffer_path`` (directory), ``buffer_size`` (events), ``buffer_bytes``, ``max_payload_bytes`` (per event),
    ``heartbeat_interval``, ``reconnect_backoff_max`` and ``shutdown_timeout`` (seconds), ``ca_file``,
    ``redaction_extra_key_patterns``, ``redaction_extra_value_patterns``.

    What the brain may have done here: ``policy`` ("observe", "operate" or "full") and lists of globs,
    ``policy_allow_actions``, ``policy_deny_actions``, ``policy_allow_tasks``, ``policy_deny_tasks``,
    ``policy_allow_queues``, ``policy_deny_queues``.

    With an engine that forks its workers (Celery) the thread starts when the worker is ready, or with the first
    event of a process; otherwise at once.

    A wrong configuration never stops the host: one error line names every wrong option, no hook is installed, and the
    runtime returned is inert (``state`` is ``RuntimeState.DISABLED``). With ``strict_mode=True`` or
    ``Z4J_STRICT_MODE=1`` it raises :class:`~z4j_core.errors.ConfigError` instead.
    """
    framework = framework or BareFrameworkAdapter()
    config, problems = examine(options, framework.settings())
    if text := str(problems):
        if config.strict_mode:
            raise ConfigError(text)
        logger.error("[z4j] the agent does not start: %s", text)
        return InertRuntime(config, framework)
    runtime = AgentRuntime(config, engines=engines, schedulers=schedulers, framework=framework)
    for adapter in (*engines, *schedulers):
        with safe_boundary(f"{adapter.name}.limits"):
            for note in adapter.limits():
                logger.info("[z4j] %s: %s", adapter.name, note)
    if config.autostart:
        runtime.start()
    return runtime
