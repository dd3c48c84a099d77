"""Signing in and out, and the first administrator."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from brain import bootstrap
from brain.errors import InvalidInput
from brain.permissions import projects_of

_BACKEND = "django.contrib.auth.backends.ModelBackend"


class Login(LoginView):
    """The login page."""

    template_name = "dashboard/accounts/login.html"
    redirect_authenticated_user = True


class Logout(LogoutView):
    """Ends the session; POST only."""

    http_method_names = ["post"]


@never_cache
@require_http_methods(["GET", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Show the one-time setup page; create the administrator and lead to connecting an agent."""
    bootstrap.check_setup_token(token)
    if request.method == "GET":
        return _setup_page(request)
    email, password = request.POST.get("email", "").strip(), request.POST.get("password", "")
    if password != request.POST.get("repeated", ""):
        return _setup_page(request, email, "The two passwords differ.")
    try:
        user = bootstrap.claim_setup(token, email, password)
    except InvalidInput as error:
        return _setup_page(request, email, str(error))
    login(request, user, backend=_BACKEND)
    project = projects_of(user).exclude(slug=bootstrap.SELF_PROJECT).first()
    return redirect("home") if project is None else redirect("connect", project.slug)


def _setup_page(request: HttpRequest, email: str = "", problem: str = "") -> HttpResponse:
    context = {"email": email, "problem": problem}
    return render(request, "dashboard/accounts/setup.html", context, status=400 if problem else 200)
