"""What Django tells about this process."""

from __future__ import annotations

from typing import Any, ClassVar

from django import get_version
from django.conf import settings
from z4j_core.adapters import FrameworkAdapter


class DjangoFrameworkAdapter(FrameworkAdapter):
    """Reads the ``Z4J`` setting; waits for a sign that the process serves before anything is started."""

    name: ClassVar[str] = "django"
    starts_late: ClassVar[bool] = True

    def role(self) -> str:
        """Return ``web``; a Celery worker says itself that it is something else."""
        return "web"

    def settings(self) -> dict[str, Any]:
        """Return the ``Z4J`` setting, empty when there is none."""
        return configured()

    def host(self) -> dict[str, Any]:
        """Return facts about the host, with Django's version."""
        return super().host() | {"django": get_version()}


def configured() -> dict[str, Any]:
    """Return the ``Z4J`` setting as a dict, empty when it is absent or not a dict."""
    value = getattr(settings, "Z4J", None)
    return dict(value) if isinstance(value, dict) else {}
