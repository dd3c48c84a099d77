"""System checks of the ``Z4J`` setting."""

from __future__ import annotations

import difflib
import os
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from z4j_bare.config import OPTIONS, resolve
from z4j_core.errors import ConfigError

_REQUIRED = ("brain_url", "token")


def check_settings(**_: Any) -> list[CheckMessage]:
    """Report a ``Z4J`` setting the agent could not start with. No setting, or an empty one, is fine."""
    value = getattr(settings, "Z4J", None)
    if not value:
        return []
    if not isinstance(value, dict):
        return [Error(f"Z4J must be a dict, not {type(value).__name__}.", hint=_EXAMPLE, id="z4j.E001")]
    messages: list[CheckMessage] = [_unknown(key) for key in value if key not in OPTIONS]
    for name in _REQUIRED:
        if not value.get(name) and not os.environ.get(f"Z4J_{name.upper()}"):
            hint = f'Set Z4J["{name}"] or the environment variable Z4J_{name.upper()}.'
            messages.append(Error(f"Z4J has no {name!r}.", hint=hint, id="z4j.E003"))
    if not messages:
        try:
            resolve({}, value)
        except ConfigError as error:
            messages.append(Error(f"Z4J is not valid: {error}", hint=_EXAMPLE, id="z4j.E004"))
    return messages


_EXAMPLE = 'Z4J = {"brain_url": "https://z4j.example.com", "token": os.environ["Z4J_TOKEN"]}'


def _unknown(key: object) -> Error:
    near = difflib.get_close_matches(str(key), OPTIONS, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(OPTIONS)}."
    return Error(f"Z4J has the unknown key {key!r}.", hint=hint, id="z4j.E002")
