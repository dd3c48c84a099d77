"""Start-up wiring of the control plane."""

from django.apps import AppConfig


class BrainConfig(AppConfig):
    """App ``brain``; the label keeps its tables apart from any other app called brain."""

    name = "brain"
    label = "z4j_brain"
    verbose_name = "z4j"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks and the receivers of sign-in signals."""
        from brain import accounts, checks  # noqa: F401, PLC0415 - both register on import, which needs the apps
