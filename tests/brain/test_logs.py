"""Log lines: one event is one line, and no secret is in it."""

import logging
import sys

from z4j_project.logs import LineFormatter, Refusals


def line(message: str, *args: object) -> str:
    record = logging.LogRecord("z4j", logging.INFO, "", 0, message, args, None)
    return LineFormatter("{message}", style="{").format(record)


def test_control_characters_cannot_begin_a_line_or_colour_it():
    assert line("agent %s", "x\nERROR fake\x1b[31m\u2028end") == "agent x\\x0aERROR fake\\x1b[31m\\x2028end"


def test_setup_links_and_tokens_are_masked():
    assert line("Bad Request: %s", "/setup/abc-DEF_123") == "Bad Request: /setup/…"
    assert line("with z4j_agent_abcDEF-123_x now") == "with z4j_agent_… now"


def test_the_text_of_an_error_cannot_pretend_to_be_a_line():
    try:
        raise ValueError("no\n2026-01-01 INFO z4j: all is well\x1b[31m")
    except ValueError:
        record = logging.LogRecord("z4j", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    lines = LineFormatter("{message}", style="{").format(record).split("\n")
    assert lines[0] == "failed"
    assert all(text.startswith("    ") for text in lines[1:])
    assert lines[-1] == "    2026-01-01 INFO z4j: all is well\\x1b[31m"


def test_refused_requests_are_a_line_each_and_not_too_many():
    refusals, passed = Refusals(), []
    for number in range(100):
        record = logging.LogRecord("django.security.DisallowedHost", logging.ERROR, "", 0, "host %s", (number,), None)
        record.exc_info = (ValueError, ValueError("x"), None)
        if refusals.filter(record):
            passed.append(record)
    assert 1 <= len(passed) < 50
    assert {record.levelname for record in passed} == {"WARNING"}
    assert all(record.exc_info is None for record in passed)
    assert passed[0].getMessage() == "host 0"
