"""Numbers, durations and moments as people read them. Pure functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_STEPS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def number(value: float | None) -> str:
    """Return a count with thousands separators; small fractions keep one decimal."""
    if value is None:
        return "—"
    tenths = round(value, 1)
    if abs(tenths) < 100 and tenths != int(tenths):
        return f"{tenths:,.1f}"
    return f"{round(value):,}"


def capped(value: int, cap: int) -> str:
    """Return a count that was not counted beyond ``cap``: "10,000+"."""
    return f"{cap:,}+" if value > cap else f"{value:,}"


def clip(text: str, cap: int) -> str:
    """Return the first ``cap`` characters of a text, and how many more there are."""
    left = len(text) - cap
    return text if left <= 0 else f"{text[:cap]}… {left:,} more characters, copy for all"


def duration(milliseconds: float | None) -> str:
    """Return a duration in two units at most: "12 ms", "1.2 s", "3 min 4 s", "2 d 5 h"."""
    if milliseconds is None:
        return "—"
    if milliseconds < 1:
        return "< 1 ms"
    if round(milliseconds) < 1000:
        return f"{round(milliseconds)} ms"
    seconds = milliseconds / 1000
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in _STEPS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def span(value: timedelta) -> str:
    """Return a time span as :func:`duration` does."""
    return duration(value / timedelta(milliseconds=1))


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was, in one unit: "12 s ago", "in 3 min"."""
    seconds = round((now - moment).total_seconds())
    if abs(seconds) < 3:
        return "just now"
    size, unit = next(((size, unit) for size, unit, _, _ in _STEPS if abs(seconds) >= size), (1, "s"))
    text = f"{abs(seconds) // size} {unit}"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def absolute(moment: datetime) -> str:
    """Return a moment to the millisecond with its zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
