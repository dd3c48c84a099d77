"""What every template may ask for; nothing is queried until a template does."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.http import HttpRequest
from z4j_core.versions import package_version

from brain.models import Project
from brain.permissions import projects_of


class Shell:
    """The frame around a page: the projects of the person and the version of the brain."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def projects(self) -> list[Project]:
        """The projects to switch between."""
        user = getattr(self._request, "user", None)
        return [] if user is None else list(projects_of(user))

    @cached_property
    def version(self) -> str:
        """The version of the brain."""
        return package_version("z4j")


def dashboard(request: HttpRequest) -> dict[str, Any]:
    """Return the context processor's values."""
    return {"shell": Shell(request)}
