"""App ``dashboard``."""

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """The label keeps it apart from any other app called dashboard."""

    name = "dashboard"
    label = "z4j_dashboard"
    verbose_name = "Dashboard"
