"""Signing in and out, and the first administrator."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from brain import bootstrap
from brain.errors import InvalidInput, NotFound
from brain.models import User
from brain.permissions import projects_of
from dashboard.middleware import error_page

_BACKEND = "django.contrib.auth.backends.ModelBackend"
_VOID_LINK = (
    "This setup link was used or has expired. "
    "As long as nobody has an account, restarting the brain prints a fresh one in its log."
)


class LoginForm(AuthenticationForm):
    """Address and password."""

    def get_invalid_login_error(self) -> ValidationError:
        """Say it in words that fit this form."""
        return ValidationError("The e-mail address or the password is not right.", code="invalid_login")


class Login(LoginView):
    """The login page; it says where the setup link is as long as nobody has an account."""

    template_name = "dashboard/accounts/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add whether there is nobody who could log in."""
        return super().get_context_data(nobody=not User.objects.exists(), **kwargs)


class Logout(LogoutView):
    """Ends the session; POST only."""

    http_method_names = ["post"]


@never_cache
@require_http_methods(["GET", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Show the one-time setup page; create the administrator and lead to connecting an agent."""
    try:
        bootstrap.check_setup_token(token)
        return _setup_page(request) if request.method == "GET" else _claim(request, token)
    except NotFound:
        return error_page(request, 404, _VOID_LINK)


def _claim(request: HttpRequest, token: str) -> HttpResponse:
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
