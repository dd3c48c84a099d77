"""Who gets to a page: signed in, a member of the project, allowed to do what the page does."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.cache import never_cache
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from brain.models import Project, User
from brain.permissions import VIEW, project_for
from dashboard.limits import time_limit

LAST_PROJECT = "project"
P = ParamSpec("P")


class Request(HttpRequest):
    """A request of somebody who is signed in."""

    user: User
    htmx: HtmxDetails


ProjectView = Callable[Concatenate[Request, Project, P], HttpResponse]


def signed_in(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponseBase]:
    """Send strangers to the login page; a request of htmx makes the whole page go there."""

    @wraps(view)
    @never_cache
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(cast(Request, request), *args, **kwargs)
        htmx = cast(Request, request).htmx
        if not htmx:
            return redirect_to_login(request.get_full_path())
        page = urlsplit(htmx.current_url or "/")
        return HttpResponseClientRedirect(redirect_to_login(page.path).url)

    return guarded


def project_view(permission: str = VIEW) -> Callable[[ProjectView[P]], Callable[..., HttpResponseBase]]:
    """Give the view the project its URL names, when the person may ``permission`` in it.

    What only reads is given up when the database takes too long for it.
    """

    def decorate(view: ProjectView[P]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def of_project(request: Request, slug: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            project = project_for(request.user, slug, permission)
            if request.session.get(LAST_PROJECT) != slug:
                request.session[LAST_PROJECT] = slug
            if request.method not in {"GET", "HEAD"}:
                return view(request, project, *args, **kwargs)
            with time_limit():
                return view(request, project, *args, **kwargs)

        return signed_in(of_project)

    return decorate
