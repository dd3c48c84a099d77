"""The admin site: projects, members, people and agents. Tasks and events are not here: they have pages of their own."""

from brain.admin.agent import AgentAdmin
from brain.admin.project import MembershipAdmin, ProjectAdmin
from brain.admin.user import UserAdmin

__all__ = ["AgentAdmin", "MembershipAdmin", "ProjectAdmin", "UserAdmin"]
