"""Filters and tags of the dashboard's templates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone

from brain.tokens import Minted
from dashboard import formats

register = template.Library()

register.filter("number", formats.number)
register.filter("duration", formats.duration)

#: How a state looks: a symbol of the sprite and a tone; the word is always beside it.
LOOKS: dict[str, tuple[str, str]] = {
    "pending": ("clock", "idle"),
    "received": ("inbox", "idle"),
    "started": ("play", "busy"),
    "retry": ("again", "warn"),
    "revoked": ("stop", "idle"),
    "failed": ("cross", "bad"),
    "rejected": ("stop", "bad"),
    "succeeded": ("check", "ok"),
    "sent": ("play", "busy"),
    "acknowledged": ("play", "busy"),
    "refused": ("stop", "bad"),
    "expired": ("clock", "warn"),
    "unknown": ("question", "warn"),
    "online": ("check", "ok"),
    "offline": ("stop", "idle"),
    "revoked agent": ("stop", "bad"),
    "denied": ("stop", "bad"),
    "allowed": ("check", "ok"),
}


@register.inclusion_tag("dashboard/parts/state.html")
def state(value: str, word: str = "") -> dict[str, str]:
    """Draw a state: symbol, tone and word."""
    symbol, tone = LOOKS.get(value, ("question", "idle"))
    return {"state": value, "symbol": symbol, "tone": tone, "word": word or value}


@register.inclusion_tag("dashboard/parts/when.html")
def when(moment: datetime | None, now: datetime | None = None) -> dict[str, Any]:
    """Draw a moment: relative, with the absolute one in its title."""
    if moment is None:
        return {"moment": None}
    return {
        "moment": moment,
        "ago": formats.ago(moment, now or timezone.now()),
        "absolute": formats.absolute(moment),
        "iso": moment.isoformat(),
    }


@register.simple_tag
def absolute(moment: datetime | None) -> str:
    """Return a moment to the millisecond."""
    return "—" if moment is None else formats.absolute(moment)


@register.filter
def clock(moment: datetime | None) -> str:
    """Return the time of day of a moment, in UTC."""
    return "—" if moment is None else formats.absolute(moment)[11:-4]


@register.filter
def short(identifier: object) -> str:
    """Return the beginning of an id, enough to tell it from its neighbours."""
    text = str(identifier)
    return text if len(text) <= 10 else f"{text[:8]}…"


@register.filter
def sentence(text: str) -> str:
    """Return a text that ends with exactly one full stop."""
    return text.rstrip(" .") + "."


@register.filter
def percent(value: float | None) -> str:
    """Return a percentage without its sign."""
    return "—" if value is None else "0" if value == 0 else "< 0.1" if value < 0.1 else formats.number(value)


@register.inclusion_tag("dashboard/parts/sparkline.html")
def sparkline(values: Sequence[float | None], label: str) -> dict[str, Any]:
    """Draw a line over the last hour; gaps stay gaps."""
    width, height = 120.0, 28.0
    top = max((value for value in values if value is not None), default=0) or 1
    step = width / max(len(values) - 1, 1)
    lines: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            lines.append([])
            continue
        lines[-1].append(f"{index * step:.1f},{height - 2 - value / top * (height - 4):.1f}")
    drawn = [line if len(line) > 1 else [line[0], line[0]] for line in lines if line]
    return {"lines": [" ".join(line) for line in drawn], "label": label}


_SNIPPETS = {
    "install-django": "pip install ./agents/z4j-core ./agents/z4j-bare ./agents/z4j-celery ./agents/z4j-django",
    "install-bare": "pip install ./agents/z4j-core ./agents/z4j-bare ./agents/z4j-celery",
    "environment": ('export Z4J_BRAIN_URL="{url}"\nexport Z4J_TOKEN="{token}"\nexport Z4J_PROJECT_ID="{project}"'),
    "django": (
        "import os\n\n"
        'INSTALLED_APPS += ["z4j_django"]\n\n'
        "Z4J = {{\n"
        '    "brain_url": os.environ.get("Z4J_BRAIN_URL"),\n'
        '    "token": os.environ.get("Z4J_TOKEN"),\n'
        '    "project_id": "{project}",\n'
        "}}"
    ),
    "bare": (
        "from z4j_bare import install_agent\n"
        "from z4j_celery import CeleryEngineAdapter\n\n"
        "# Reads Z4J_BRAIN_URL, Z4J_TOKEN and Z4J_PROJECT_ID.\n"
        "install_agent(engines=[CeleryEngineAdapter(celery_app=app)])"
    ),
    "run": "python -m z4j_bare run --engine celery --celery-app yourproject.celery:app",
}


@register.simple_tag
def snippet(name: str, minted: Minted, url: str, project: str) -> str:
    """Return the lines to copy, with address and token filled in."""
    return _SNIPPETS[name].format(url=url, token=minted.token, project=project)
