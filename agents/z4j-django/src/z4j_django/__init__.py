"""The z4j agent for Django: add ``z4j_django`` to ``INSTALLED_APPS`` and set ``Z4J``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from z4j_bare import AgentRuntime

__all__ = ["start_agent"]


def start_agent(**overrides: Any) -> "AgentRuntime":
    """Start the agent in this process now and return its runtime (see :func:`z4j_django.startup.start_agent`)."""
    # Settings are not ready while INSTALLED_APPS is being imported.
    from z4j_django.startup import start_agent as start  # noqa: PLC0415

    return start(**overrides)
