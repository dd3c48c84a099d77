"""Errors of the brain as pages with the right status."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from brain.errors import BrainError, NotFound, http_status

_TITLES = {400: "That does not work", 403: "Not allowed", 404: "Nothing here", 409: "Not possible now"}


class ErrorMiddleware:
    """Turns a :class:`~brain.errors.BrainError` of a view into a page; other exceptions are left alone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Render the page of a brain error."""
        if not isinstance(exception, BrainError):
            return None
        status = http_status(exception)
        message = "" if isinstance(exception, NotFound) else str(exception)
        return error_page(request, status, message)


def error_page(request: HttpRequest, status: int, message: str = "") -> HttpResponse:
    """Return the page of an HTTP status, with what went wrong and a way back."""
    referer = request.headers.get("referer", "")
    back = referer if url_has_allowed_host_and_scheme(referer, {request.get_host()}) else ""
    title = _TITLES.get(status, HTTPStatus(status).phrase)
    context = {"status": status, "title": title, "message": message, "back": back}
    return render(request, "dashboard/error.html", context, status=status)
