"""The tables of the control plane, one aggregate a file."""

from brain.models.agent import Agent, AgentProcess
from brain.models.command import Command
from brain.models.event import Event, Quarantine
from brain.models.job import Job
from brain.models.metric import MetricMinute
from brain.models.project import Membership, Project, Role
from brain.models.task import Queue, Task, TaskName, Worker
from brain.models.user import SetupToken, User

__all__ = [
    "Agent",
    "AgentProcess",
    "Command",
    "Event",
    "Job",
    "Membership",
    "MetricMinute",
    "Project",
    "Quarantine",
    "Queue",
    "Role",
    "SetupToken",
    "Task",
    "TaskName",
    "User",
    "Worker",
]
