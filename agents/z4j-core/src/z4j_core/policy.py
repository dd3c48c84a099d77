"""What the owner of an agent allows: the agent obeys it whatever the brain asks, the brain reads it to say so first.

Values and functions only. A refusal is a sentence that begins with the setting that caused it.
"""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from z4j_core import limits
from z4j_core.actions import ACTIONS

#: From the least to the most: nothing; what the engine itself knows, within caps; whatever the lists let through.
MODES: Final = ("observe", "operate", "full")
#: The lists of a policy, by the name of their field.
LISTS: Final = ("allow_actions", "deny_actions", "allow_tasks", "deny_tasks", "allow_queues", "deny_queues")

#: The parameters by which a command names something of the engine, and what that is.
_NAMED: Final = {"task_name": "task", "queue": "queue", "worker_name": "worker", "schedule_id": "schedule"}
#: Those of them that lists are about.
_LISTED: Final = {"task_name": "tasks", "queue": "queues"}
_OPERATED: Final = frozenset({"task", "queue", "worker", "schedule"})

#: Tells whether the engine knows the ``task``, ``queue``, ``worker`` or ``schedule`` of this name. May block.
Knows = Callable[[str, str], bool]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A mode and lists of globs. An allow list of ``None`` allows everything, an empty one nothing; denials win."""

    mode: str = "operate"
    allow_actions: tuple[str, ...] | None = None
    deny_actions: tuple[str, ...] = ()
    allow_tasks: tuple[str, ...] | None = None
    deny_tasks: tuple[str, ...] = ()
    allow_queues: tuple[str, ...] | None = None
    deny_queues: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return in sentences what cannot be meant: an unknown mode, patterns that no action matches."""
        found = []
        if self.mode not in MODES:
            found.append(f"policy {self.mode!r} is not known, use 'observe', 'operate' or 'full'")
        for field in ("allow_actions", "deny_actions"):
            for pattern in getattr(self, field) or ():
                if not any(fnmatchcase(action, pattern) for action in ACTIONS):
                    near = difflib.get_close_matches(pattern, ACTIONS, n=1)
                    hint = f", did you mean {near[0]!r}?" if near else ""
                    found.append(f"policy_{field}: there is no action {pattern!r}{hint}")
        return found

    def to_wire(self) -> dict[str, Any]:
        """Return the policy as ``hello`` announces it: the mode, and the lists that are set."""
        lists = {name: value for name in LISTS if (value := getattr(self, name)) or name.startswith("allow_")}
        return {"mode": self.mode, **{name: list(value) for name, value in lists.items() if value is not None}}

    @classmethod
    def from_wire(cls, announced: Mapping[str, Any] | None) -> Self | None:
        """Return the policy a peer announced, ``None`` when it announced none that can be read."""
        if announced is None or announced.get("mode") not in MODES:
            return None
        lists = {name: _globs(announced[name]) for name in LISTS if isinstance(announced.get(name), list)}
        return cls(mode=announced["mode"], **lists)

    def refuses_action(self, action: str) -> str | None:
        """Return why ``action`` is refused whatever it is done to, ``None`` when it is not."""
        if self.mode not in ("operate", "full"):
            return f"Z4J_POLICY={self.mode} allows no actions"
        if self.mode == "operate" and (action not in ACTIONS or ACTIONS[action].target not in _OPERATED):
            return f"Z4J_POLICY=operate does not include {action!r}"
        return self._listed("actions", "action", action)

    def lists(self, kind: str) -> bool:
        """Tell whether there is a list for ``actions``, ``tasks`` or ``queues``."""
        return getattr(self, f"allow_{kind}") is not None or bool(getattr(self, f"deny_{kind}"))

    def _listed(self, kind: str, noun: str, name: str) -> str | None:
        for pattern in getattr(self, f"deny_{kind}"):
            if fnmatchcase(name, pattern):
                return f"Z4J_POLICY_DENY_{kind.upper()} denies the {noun} {name!r}"
        allowed = getattr(self, f"allow_{kind}")
        if allowed is not None and not any(fnmatchcase(name, pattern) for pattern in allowed):
            return f"Z4J_POLICY_ALLOW_{kind.upper()} does not list the {noun} {name!r}"
        return None


def judge(policy: Policy, action: str, parameters: Mapping[str, Any], knows: Knows | None = None) -> str | None:
    """Return why ``policy`` refuses a command, ``None`` when it allows it.

    Without ``knows`` nobody can look a name up, so that question alone is left open: for the brain, which only
    foretells what the agent will say.
    """
    return (
        policy.refuses_action(action)
        or _refused_bulk(policy, parameters)
        or _refused_names(policy, action, parameters)
        or (_unknown(policy, action, parameters, knows) if knows is not None else None)
    )


def _refused_bulk(policy: Policy, parameters: Mapping[str, Any]) -> str | None:
    """Refuse more ids at once than the mode allows, wherever the command puts them."""
    if policy.mode == "full":
        return None
    chosen = parameters.get("filter")
    sources = (parameters, chosen) if isinstance(chosen, Mapping) else (parameters,)
    count = sum(len(source[key]) for source in sources for key in _ids_of(source))
    most = parameters.get("max")
    if isinstance(most, int | float) and most > count:
        count = int(min(most, limits.MAX_INT))
    if count > limits.POLICY_BULK_IDS:
        return f"Z4J_POLICY=operate allows {limits.POLICY_BULK_IDS} ids at once, not {count}"
    return None


def _ids_of(source: Mapping[str, Any]) -> list[str]:
    return [key for key, value in source.items() if key.endswith("ids") and isinstance(value, list)]


def _refused_names(policy: Policy, action: str, parameters: Mapping[str, Any]) -> str | None:
    """Hold the names of a command against the lists; where there is a list, a name must be given."""
    for parameter, kind in _LISTED.items():
        if not policy.lists(kind):
            continue
        noun, name = _NAMED[parameter], parameters.get(parameter)
        if name is None or name == "":
            if _takes(action, parameter):
                return f"{_settings(policy, kind)} is set, and the command names no {noun}"
        elif not isinstance(name, str):
            return f"{_settings(policy, kind)} is set, and the command's {parameter} is not a text"
        elif reason := policy._listed(kind, noun, name):
            return reason
    return None


def _unknown(policy: Policy, action: str, parameters: Mapping[str, Any], knows: Knows) -> str | None:
    """Refuse names the engine does not know, in ``operate`` and where there is a list.

    A list alone would not hold: engines have tasks of their own that run any task their arguments name.
    """
    for parameter, noun in _NAMED.items():
        listed = parameter in _LISTED and policy.lists(_LISTED[parameter])
        if not _takes(action, parameter) or not (policy.mode == "operate" or listed):
            continue
        setting = _settings(policy, _LISTED[parameter]) if listed else f"Z4J_POLICY={policy.mode}"
        name = parameters.get(parameter)
        if name is None or name == "":
            if parameter == "task_name":
                return f"{setting}: the command names no task"
        elif not isinstance(name, str) or not knows(noun, name):
            return f"{setting}: the engine knows no {noun} {name!r}"
    return None


def _takes(action: str, parameter: str) -> bool:
    return action in ACTIONS and any(one.name == parameter for one in ACTIONS[action].parameters)


def _settings(policy: Policy, kind: str) -> str:
    which = "DENY" if getattr(policy, f"deny_{kind}") else "ALLOW"
    return f"Z4J_POLICY_{which}_{kind.upper()}"


def _globs(value: list[Any]) -> tuple[str, ...]:
    return tuple(item[: limits.MAX_NAME] for item in value[: limits.MAX_LIST] if isinstance(item, str))


class RateCap:
    """A token bucket: ``per_minute`` commands at once, and as many again in each minute. Not for several threads."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = float(per_minute)
        self._clock = clock
        self._left = self._size
        self._at = clock()

    def take(self) -> bool:
        """Take one command's worth and tell whether there was one."""
        now = self._clock()
        self._left = min(self._size, self._left + max(0.0, now - self._at) * self._size / 60.0)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Gate:
    """What every command of one process passes: its policy and the cap that goes with it. Not for several threads."""

    def __init__(self, policy: Policy, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self._rate = RateCap(limits.POLICY_COMMANDS_PER_MINUTE, clock)

    def refuses(self, action: str) -> str | None:
        """Count a command whose action is allowed; return why it may not even be begun, ``None`` when it may."""
        if reason := self.policy.refuses_action(action):
            return reason
        if self.policy.mode == "full" or self._rate.take():
            return None
        cap = limits.POLICY_COMMANDS_PER_MINUTE
        return f"Z4J_POLICY={self.policy.mode} allows {cap} commands a minute, try again later"
