"""Who may do what: roles to permissions, and the one function that decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser
from z4j_core.actions import ACTIONS

from brain.errors import NotFound, PermissionDenied
from brain.models import Membership, Project, Role, User

if TYPE_CHECKING:
    from django.db.models import QuerySet

VIEW = "view"
VIEW_AUDIT = "view_audit"
MANAGE_AGENTS = "manage_agents"
MANAGE_MEMBERS = "manage_members"


def _actions_for(*roles: str) -> frozenset[str]:
    return frozenset(name for name, action in ACTIONS.items() if action.min_role in roles)


_VIEWER = frozenset({VIEW}) | _actions_for("viewer")
_AUDITOR = _VIEWER | {VIEW_AUDIT} | _actions_for("auditor")
_OPERATOR = _VIEWER | _actions_for("operator")
_ADMIN = _AUDITOR | _OPERATOR | {MANAGE_AGENTS, MANAGE_MEMBERS} | _actions_for("admin")

#: What each role may do.
GRANTS: dict[str, frozenset[str]] = {
    Role.VIEWER: _VIEWER,
    Role.AUDITOR: _AUDITOR,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _ADMIN,
}

Person = User | AnonymousUser


def projects_of(user: Person) -> QuerySet[Project]:
    """Return the projects a person may see: all for a site administrator, else those of the memberships."""
    projects = Project.objects.filter(archived_at=None)
    if not user.is_authenticated or not user.is_active:
        return projects.none()
    return projects if user.is_superuser else projects.filter(memberships__user=user)


def grants(user: Person, project: Project) -> frozenset[str]:
    """Return what a person may do in a project; empty for one who is not a member."""
    if not user.is_authenticated or not user.is_active:
        return frozenset()
    if user.is_superuser:
        return _ADMIN
    role = Membership.objects.filter(user=user, project=project).values_list("role", flat=True).first()
    return GRANTS.get(role, frozenset()) if role else frozenset()


def require(user: Person, project: Project, permission: str) -> None:
    """Return when the person may; raise :class:`NotFound` for a stranger, :class:`PermissionDenied` for a member.

    A stranger is told that there is nothing, so that names of projects cannot be guessed.
    """
    held = grants(user, project)
    if not held:
        raise NotFound
    if permission not in held:
        label = ACTIONS[permission].label.lower() if permission in ACTIONS else permission.replace("_", " ")
        raise PermissionDenied(f"Your role in {project.name} does not allow: {label}.")


def project_for(user: Person, slug: str, permission: str = VIEW) -> Project:
    """Return the project ``slug`` when the person may ``permission`` in it. Raises as :func:`require` does."""
    project = projects_of(user).filter(slug=slug).first()
    if project is None:
        raise NotFound
    require(user, project, permission)
    return project
