"""The project as an app, for the commands that start the server."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Holds management commands only."""

    name = "z4j_project"
    label = "z4j_project"
    verbose_name = "z4j project"
