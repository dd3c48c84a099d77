"""Log lines: one event is one line, and no secret is in it."""

import logging

from z4j_project.logs import LineFormatter


def line(message: str, *args: object) -> str:
    record = logging.LogRecord("z4j", logging.INFO, "", 0, message, args, None)
    return LineFormatter("{message}", style="{").format(record)


def test_control_characters_cannot_begin_a_line_or_colour_it():
    assert line("agent %s", "x\nERROR fake\x1b[31m\u2028end") == "agent x\\x0aERROR fake\\x1b[31m\\x2028end"


def test_setup_links_and_tokens_are_masked():
    assert line("Bad Request: %s", "/setup/abc-DEF_123") == "Bad Request: /setup/…"
    assert line("with z4j_agent_abcDEF-123_x now") == "with z4j_agent_… now"
