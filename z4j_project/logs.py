"""Log lines: one event is one line, whatever text it carries."""

from __future__ import annotations

import logging
import re
from typing import Any

from brain.gateway.admission import LogThrottle

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SECRET = re.compile(r"(/setup/|z4j_agent_)[\w-]+")


class LineFormatter(logging.Formatter):
    """Escapes control characters of the message, so that nobody can write a line of their own, and masks secrets.

    The lines of a traceback are indented, those of the error's own text among them.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format the message without what could break or colour the line."""
        message = _SECRET.sub(r"\1…", record.message)
        record.message = _escaped(message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Format a traceback, each line of it indented and escaped like a message."""
        lines = _SECRET.sub(r"\1…", super().formatException(ei)).split("\n")
        return "\n".join(f"    {_escaped(line)}" for line in lines)


class Refusals(logging.Filter):
    """Makes one line of a refused request: a stranger's mistake is no fault of ours, and not worth a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = LogThrottle()

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass the first lines and then one now and again, as warnings without a traceback."""
        note = self._throttle(record.name)
        record.msg, record.args = f"{record.getMessage()}{note or ''}", ()
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return note is not None


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)
