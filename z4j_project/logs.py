"""Log lines: one event is one line, whatever text it carries."""

from __future__ import annotations

import logging
import re

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


_SECRET = re.compile(r"(/setup/|z4j_agent_)[\w-]+")


class LineFormatter(logging.Formatter):
    """Escapes control characters of the message, so that nobody can write a line of their own, and masks secrets."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format the message without what could break or colour the line."""
        message = _SECRET.sub(r"\1…", record.message)
        record.message = _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", message)
        return super().formatMessage(record)
