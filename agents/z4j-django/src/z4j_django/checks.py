"""System checks of the ``Z4J`` setting. Warnings only: an error would stop every management command."""

from __future__ import annotations

import difflib
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning
from z4j_bare.config import OPTIONS, examine


def check_settings(**_: Any) -> list[CheckMessage]:
    """Report a ``Z4J`` setting the agent could not start with.

    No setting, an empty one, or one with neither address nor token (here and in the environment) is fine: no agent is
    wanted.
    """
    value = getattr(settings, "Z4J", None)
    if not value:
        return []
    if not isinstance(value, dict):
        return [Warning(f"Z4J must be a dict, not {type(value).__name__}.", hint=_EXAMPLE, id="z4j.W101")]
    _config, problems = examine({}, value)
    messages: list[CheckMessage] = [_unknown(name) for name in problems.unknown]
    if not problems.unused:
        messages += [_missing(name) for name in problems.missing]
    if problems.invalid:
        text = "; ".join(problems.invalid)
        messages.append(Warning(f"Z4J is not valid: {text}", hint=_EXAMPLE, id="z4j.W104"))
    return messages


_EXAMPLE = 'Z4J = {"brain_url": "https://z4j.example.com", "token": os.environ.get("Z4J_TOKEN")}'


def _unknown(name: str) -> Warning:
    near = difflib.get_close_matches(name, OPTIONS, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(OPTIONS)}."
    return Warning(f"Z4J has the unknown key {name!r}.", hint=hint, id="z4j.W102")


def _missing(name: str) -> Warning:
    hint = f'Set Z4J["{name}"] or the environment variable Z4J_{name.upper()}.'
    return Warning(f"Z4J has no {name!r}.", hint=hint, id="z4j.W103")
