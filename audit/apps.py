"""App ``audit``."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """The label keeps its tables apart from any other app called audit."""

    name = "audit"
    label = "z4j_audit"
    verbose_name = "Audit log"
    default_auto_field = "django.db.models.BigAutoField"
