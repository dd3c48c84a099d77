"""The z4j agent for any Python process: captures what task engines do and carries the brain's commands to them."""

from z4j_core.safety import safe_boundary, safe_call

from z4j_bare.buffer import BufferStore
from z4j_bare.install import BareFrameworkAdapter, install_agent
from z4j_bare.runtime import AgentRuntime, RuntimeState

__all__ = [
    "AgentRuntime",
    "BareFrameworkAdapter",
    "BufferStore",
    "RuntimeState",
    "install_agent",
    "safe_boundary",
    "safe_call",
]
