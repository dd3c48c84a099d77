"""Signing in: how an address is compared, and what of it the audit log keeps."""

from __future__ import annotations

import unicodedata
from typing import Any

from django.contrib.auth import signals
from django.dispatch import receiver
from django.http import HttpRequest

from audit.record import INSTALLATION, record
from brain.models import User


def login_name(request: HttpRequest | None, credentials: dict[str, Any] | None) -> str:
    """Return the account a sign-in is counted for: the address, whatever its case and spelling."""
    given = (credentials or {}).get("username") or (request.POST.get("username", "") if request is not None else "")
    return unicodedata.normalize("NFKC", str(given)).strip().casefold()


@receiver(signals.user_logged_in, dispatch_uid="z4j-logged-in")
def _logged_in(user: User, **kwargs: Any) -> None:
    record(chain_id=INSTALLATION, actor=user.email, action="user.login", target=f"user:{user.email}")


@receiver(signals.user_logged_out, dispatch_uid="z4j-logged-out")
def _logged_out(user: User | None, **kwargs: Any) -> None:
    if user is not None:
        record(chain_id=INSTALLATION, actor=user.email, action="user.logout", target=f"user:{user.email}")
