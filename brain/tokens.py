"""Agent credentials: mint, encrypt, verify, revoke. The token itself is never stored."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import secrets
from collections.abc import Iterable

from cryptography.fernet import Fernet
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from z4j_core.signing import derive_secret, secret_text

from audit.record import record
from brain import live
from brain.errors import Conflict, InvalidInput
from brain.models import Agent, Project

PREFIX = "z4j_agent_"
MAX_NAME = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Minted:
    """A fresh credential; the only time its secrets are known."""

    agent: Agent
    token: str = dataclasses.field(repr=False)
    hmac_secret: str = dataclasses.field(repr=False)


def digest(token: str) -> str:
    """Return what is stored of a token: SHA-256, enough for 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def _cipher() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(settings.Z4J_CONFIG.key("agent-hmac-secret")))


def mint(project: Project, name: str, *, by: str, token: str | None = None) -> Minted:
    """Create an agent and its credential.

    ``by`` names who asked, for the audit log; ``token`` is only given by the brain for itself.
    Raises :class:`InvalidInput` for a bad name and :class:`Conflict` for one in use.
    """
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInput(f"An agent needs a name of 1 to {MAX_NAME} printable characters.")
    token = token or PREFIX + secrets.token_urlsafe(32)
    secret = derive_secret(token)
    with transaction.atomic():
        if Agent.objects.filter(project=project, name=name).exists():
            raise Conflict(f"Project {project.slug} has an agent called {name} already; choose another name.")
        agent = Agent.objects.create(
            project=project,
            name=name,
            token_digest=digest(token),
            hmac_secret_encrypted=_cipher().encrypt(secret).decode(),
            created_by=by,
        )
        record(chain_id=project.id, actor=by, action="agent.mint", target=f"agent:{agent.id}", detail={"name": name})
    return Minted(agent, token, secret_text(secret))


def find(token: str) -> tuple[Agent, bytes] | None:
    """Return the agent of a token and its HMAC key; None when there is none, or it was revoked."""
    return find_all([token]).get(token)


def find_all(bearers: Iterable[str]) -> dict[str, tuple[Agent, bytes]]:
    """Return agent and HMAC key by token, of those tokens that are valid: known, not revoked, project not archived."""
    wanted = {digest(token): token for token in bearers}
    agents = Agent.objects.select_related("project").filter(
        token_digest__in=wanted, revoked_at=None, project__archived_at=None
    )
    cipher = _cipher()
    return {
        wanted[agent.token_digest]: (agent, cipher.decrypt(agent.hmac_secret_encrypted.encode())) for agent in agents
    }


def revoke(agent: Agent, *, by: str) -> None:
    """Make a credential void and close its connections; once void it stays so."""
    with transaction.atomic():
        changed = Agent.objects.filter(id=agent.id, revoked_at=None).update(revoked_at=timezone.now())
        if not changed:
            return
        record(chain_id=agent.project_id, actor=by, action="agent.revoke", target=f"agent:{agent.id}")
    transaction.on_commit(lambda: live.revoke_agent(agent.id))
