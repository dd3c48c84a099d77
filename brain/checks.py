"""System checks of the brain; each has an id and a hint, and docs/reference/checks.md lists them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register


@register(Tags.security, deploy=True)
def check_public_url(**kwargs: Any) -> list[CheckMessage]:
    """Warn when the brain is to be deployed without https."""
    if settings.Z4J_CONFIG.is_secure:
        return []
    return [
        Warning(
            "Z4J_PUBLIC_URL is not an https address, so cookies travel in the clear.",
            hint="Put the brain behind a TLS proxy and set Z4J_PUBLIC_URL=https://…",
            id="z4j.W001",
        )
    ]


@register(Tags.security)
def check_debug(**kwargs: Any) -> list[CheckMessage]:
    """Refuse detailed error pages on an address that others can reach."""
    config = settings.Z4J_CONFIG
    if not config.debug or config.host in {"127.0.0.1", "::1", "localhost"}:
        return []
    return [
        Error(
            "Z4J_DEBUG is on while Z4J_HOST is not a loopback address.",
            hint="Unset Z4J_DEBUG, or listen on 127.0.0.1.",
            id="z4j.E002",
        )
    ]
