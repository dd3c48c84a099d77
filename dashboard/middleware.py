"""Errors of the brain as pages with the right status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from django.db import DataError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from brain.errors import BrainError, NotFound, http_status
from dashboard.limits import TooSlow

logger = logging.getLogger("z4j.dashboard")

_TITLES = {
    400: "That does not work",
    403: "Not allowed",
    404: "Nothing here",
    409: "Not possible now",
    503: "This took too long",
}


class ErrorMiddleware:
    """Turns a :class:`~brain.errors.BrainError` of a view, and what was asked wrongly, into a page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Render the page of a brain error, or of an address with a value the database cannot take."""
        if isinstance(exception, DataError) and request.method in {"GET", "HEAD"}:
            logger.warning("%s %s: %s", request.method, request.path, exception)
            return error_page(request, 400, "The address holds a value that cannot be searched for.")
        if not isinstance(exception, BrainError):
            return None
        status = 503 if isinstance(exception, TooSlow) else http_status(exception)
        message = "" if isinstance(exception, NotFound) else str(exception)
        return error_page(request, status, message)


def error_page(request: HttpRequest, status: int, message: str = "") -> HttpResponse:
    """Return the page of an HTTP status, with what went wrong and a way back."""
    referer = request.headers.get("referer", "")
    back = referer if url_has_allowed_host_and_scheme(referer, {request.get_host()}) else ""
    title = _TITLES.get(status, HTTPStatus(status).phrase)
    context = {"status": status, "title": title, "message": message, "back": back}
    return render(request, "dashboard/error.html", context, status=status)
