"""Finds the engine and scheduler adapters that are installed, by entry points."""

from __future__ import annotations

import dataclasses
from importlib.metadata import EntryPoint, entry_points

from z4j_core.adapters import Adapter
from z4j_core.errors import EngineUnavailable, Z4JError
from z4j_core.safety import safe_boundary

ENGINES = "z4j.engines"
SCHEDULERS = "z4j.schedulers"


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One entry point: its adapter class, or the reason why there is none."""

    name: str
    adapter: type[Adapter] | None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name}: available" if self.adapter else f"{self.name}: not available: {self.reason}"


def available(group: str = ENGINES) -> list[Found]:
    """Return what is installed in ``group``, sorted by name. A broken wheel is reported, never raised."""
    return [_load(point) for point in sorted(entry_points(group=group), key=lambda point: point.name)]


def load(name: str, group: str = ENGINES) -> type[Adapter]:
    """Return the adapter class called ``name``. Raises :class:`EngineUnavailable` with the reason."""
    for found in available(group):
        if found.name == name:
            if found.adapter is None:
                raise EngineUnavailable(str(found))
            return found.adapter
    raise EngineUnavailable(f"{name}: not available: no installed wheel provides it")


def discover(group: str = ENGINES) -> tuple[list[Adapter], list[str]]:
    """Return an adapter of every engine this process has configured, and the reasons for the others."""
    adapters: list[Adapter] = []
    reasons: list[str] = []
    for found in available(group):
        if found.adapter is None:
            reasons.append(str(found))
            continue
        with safe_boundary(f"{found.name}.discover") as boundary:
            try:
                adapters.append(found.adapter.discover())
            except Z4JError as error:
                reasons.append(f"{found.name}: not available: {error}")
        if boundary.error is not None:
            reasons.append(f"{found.name}: not available: {boundary.error}")
    return adapters, reasons


def _load(point: EntryPoint) -> Found:
    reason = ""
    with safe_boundary(f"{point.name}.load") as boundary:
        try:
            loaded = point.load()
        except ImportError as error:
            return Found(point.name, None, str(error) or "it cannot be imported")
        if isinstance(loaded, type) and issubclass(loaded, Adapter):
            return Found(point.name, loaded)
        reason = f"{point.value} is not an adapter class"
    return Found(point.name, None, reason or str(boundary.error))


__all__ = ["ENGINES", "SCHEDULERS", "EngineUnavailable", "Found", "available", "discover", "load"]
