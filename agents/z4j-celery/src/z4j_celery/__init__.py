"""The z4j adapter for Celery."""

from z4j_celery.adapter import CeleryEngineAdapter

__all__ = ["CeleryEngineAdapter"]
