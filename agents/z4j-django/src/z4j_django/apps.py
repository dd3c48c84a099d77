"""The Django application: checks, and the start of the agent."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from z4j_django import checks, startup


class Z4JConfig(AppConfig):
    """Installs the agent when the project is ready."""

    name = "z4j_django"
    label = "z4j_django"
    verbose_name = "z4j agent"

    def ready(self) -> None:
        """Register the checks and install the agent where it is wanted."""
        register(checks.check_settings)
        startup.accept_flag()
        startup.autostart()
