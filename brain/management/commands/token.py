"""``z4j token PROJECT NAME``: mint a credential for an agent."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from brain import tokens
from brain.errors import BrainError
from brain.models import Project


class Command(BaseCommand):
    """Print the credential once; it cannot be shown again."""

    help = "Mint a credential for an agent and print it. It is shown once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the project, the agent's name and the format."""
        parser.add_argument("project", help="slug of the project")
        parser.add_argument("name", help="name of the agent, unique in the project")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Mint and print."""
        project = Project.objects.filter(slug=options["project"], archived_at=None).first()
        if project is None:
            known = ", ".join(Project.objects.filter(archived_at=None).values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no project {options['project']!r}. Projects: {known}.")
        try:
            minted = tokens.mint(project, options["name"], by="command line")
        except BrainError as error:
            raise CommandError(str(error)) from error
        credential = {
            "agent_id": str(minted.agent.id),
            "project": project.slug,
            "token": minted.token,
            "hmac_secret": minted.hmac_secret,
        }
        if options["json"]:
            self.stdout.write(json.dumps(credential))
            return
        for name, value in credential.items():
            self.stdout.write(f"{name:12} {value}")
        self.stdout.write("Keep them: they are not shown again.")
