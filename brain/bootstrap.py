"""First boot: projects, the administrator, the one-time setup link, the brain's own agent."""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from audit.record import INSTALLATION, record
from brain import tokens
from brain.errors import Conflict, InvalidInput, NotFound
from brain.models import Agent, Project, SetupToken, User

SETUP_LIFETIME = timedelta(minutes=15)
SELF_PROJECT = "z4j"
SELF_AGENT = "brain"


def ensure_projects() -> None:
    """Create project ``default`` and the brain's own, when they are not there."""
    Project.objects.get_or_create(slug="default", defaults={"name": "Default"})
    Project.objects.get_or_create(slug=SELF_PROJECT, defaults={"name": "z4j", "environment": "brain"})


def ensure_self_agent() -> str:
    """Make sure the brain's own agent exists; return its token, which follows from the master secret."""
    token = tokens.PREFIX + base64.urlsafe_b64encode(settings.Z4J_CONFIG.key("self-agent")).decode().rstrip("=")
    project = Project.objects.get(slug=SELF_PROJECT)
    if not Agent.objects.filter(token_digest=tokens.digest(token)).exists():
        name = SELF_AGENT
        if Agent.objects.filter(project=project, name=name).exists():
            name = f"{SELF_AGENT}-{secrets.token_hex(3)}"
        tokens.mint(project, name, by="system", token=token)
    return token


def ensure_administrator(email: str, password: str) -> bool:
    """Create the administrator named by the environment, unless somebody exists already; tell whether it did."""
    if not email or User.objects.exists():
        return False
    create_administrator(email, password, by="environment")
    return True


def create_administrator(email: str, password: str, *, by: str) -> User:
    """Create a site administrator. Raises :class:`InvalidInput` for a password that is too weak."""
    user = User(email=email)
    try:
        user.full_clean(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages)) from error
    with transaction.atomic():
        user = User.objects.create_superuser(email, password)
        record(chain_id=INSTALLATION, actor=by, action="user.create_administrator", target=f"user:{user.email}")
    return user


def mint_setup_token() -> str | None:
    """Return a fresh secret for the setup page, good for 15 minutes; None once there is a user."""
    if User.objects.exists():
        return None
    token = secrets.token_urlsafe(32)
    now = timezone.now()
    with transaction.atomic():
        # A link that was printed a moment ago, perhaps by another brain, stays good: the first claim ends them all.
        SetupToken.objects.filter(expires_at__lte=now).delete()
        SetupToken.objects.create(digest=tokens.digest(token), created_at=now, expires_at=now + SETUP_LIFETIME)
    return token


def check_setup_token(token: str) -> None:
    """Raise :class:`NotFound` unless the setup page may be used with this secret now."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    rows = SetupToken.objects.filter(digest=digest, used_at=None, expires_at__gt=timezone.now())
    if User.objects.exists() or not rows.exists():
        raise NotFound


def claim_setup(token: str, email: str, password: str) -> User:
    """Create the first administrator with a setup secret; of any number of claims exactly one succeeds.

    Raises :class:`NotFound`, :class:`InvalidInput` (the secret stays good) or :class:`Conflict`.
    """
    digest = hashlib.sha256(token.encode()).hexdigest()
    with transaction.atomic():
        check_setup_token(token)
        claimed = SetupToken.objects.filter(digest=digest, used_at=None).update(used_at=timezone.now())
        if not claimed:
            raise Conflict("This setup link has just been used.")
        return create_administrator(email, password, by="setup link")
