"""A management command that says it is there and waits for its end."""

import sys

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--wait", action="store_true")

    def handle(self, *, wait, **options):
        assert "with_z4j" not in options
        self.stdout.write("here")
        self.stdout.flush()
        if wait:
            sys.stdin.read()
