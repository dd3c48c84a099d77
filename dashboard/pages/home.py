"""The way in: to the project a person looked at last."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render

from brain.bootstrap import SELF_PROJECT
from brain.permissions import projects_of
from dashboard.access import LAST_PROJECT, Request, signed_in


@signed_in
def home(request: Request) -> HttpResponse:
    """Lead to the last or first project; say so when there is none."""
    slugs = list(projects_of(request.user).values_list("slug", flat=True))
    if not slugs:
        return render(request, "dashboard/home/empty.html")
    last = request.session.get(LAST_PROJECT)
    others = [slug for slug in slugs if slug != SELF_PROJECT]
    return redirect("overview", last if last in slugs else (others or slugs)[0])
