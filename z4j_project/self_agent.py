"""The brain is its own first client: its process appears under project ``z4j``."""

from __future__ import annotations

import logging
import threading

from z4j_core.errors import Z4JError

logger = logging.getLogger("z4j.server")


def start_self_agent(base_url: str, token: str) -> None:
    """Start the agent in this process, away from the event loop. A failure is logged; the brain serves all the same."""
    threading.Thread(target=_start, args=(base_url, token), name="z4j-self-agent", daemon=True).start()


def _start(base_url: str, token: str) -> None:
    from z4j_django import start_agent  # noqa: PLC0415 - loads the agent only where it is wanted

    try:
        start_agent(brain_url=base_url, token=token, project_id="z4j", engines=[], schedulers=[])
    except Z4JError as error:
        logger.warning("the brain's own agent did not start: %s", error)
