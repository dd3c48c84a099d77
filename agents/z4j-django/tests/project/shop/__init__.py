"""A tiny Django project with a Celery app, as the documentation of both has it."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
