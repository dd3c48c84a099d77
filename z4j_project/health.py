"""Is this brain able to serve: the question of load balancers and containers."""

from __future__ import annotations

from django.db import Error, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe
from z4j_core.versions import package_version


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Return 200 when the database answers, 503 otherwise; names no address and no secret."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return JsonResponse({"status": "unavailable", "database": "does not answer"}, status=503)
    return JsonResponse({"status": "ok", "version": package_version("z4j"), "database": connection.vendor})
