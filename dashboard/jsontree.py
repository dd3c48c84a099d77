"""JSON text as a tree to render: numbers keep their spelling, redacted spans are told apart. Pure."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from dashboard.formats import clip

#: Nodes shown of one document; what lies beyond is counted.
MAX_NODES = 1500
#: Characters shown of one document, unless told otherwise.
MAX_TEXT = 64 * 1024
#: Deeper documents are shown as text.
MAX_DEPTH = 40
_REDACTED = re.compile(r"(\[redacted[^\[\]]{0,64}\])")


class Number(str):
    """A number as it was spelled: it may be too long, too exact or too large for a number of ours."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text, and whether it stands for something that was taken out."""

    text: str
    redacted: bool


@dataclasses.dataclass(slots=True)
class Node:
    """One value. ``kind`` is object, array, string, number or word; ``summary`` describes a closed branch."""

    key: str | None
    kind: str
    segments: list[Segment] = dataclasses.field(default_factory=list)
    children: list[Node] = dataclasses.field(default_factory=list)
    summary: str = ""
    left_out: int = 0
    depth: int = 0

    @property
    def open(self) -> bool:
        """Whether to show its children at first."""
        return self.depth < 2 and len(self.children) <= 25


@dataclasses.dataclass(slots=True)
class _Budget:
    """What of a document may still be shown."""

    nodes: int
    characters: int

    def spend(self, text: str) -> str:
        """Return as much of a text as may be shown."""
        shown = clip(text, max(self.characters, 0))
        self.characters -= len(text)
        return shown


def read(text: str) -> Any:
    """Return the value of a JSON text, its numbers as :class:`Number`. Raises ``ValueError`` or ``RecursionError``."""
    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number)


def parse(text: str, characters: int = MAX_TEXT) -> Node | None:
    """Return the tree of a JSON text; None when it is not JSON, or too deep."""
    try:
        return build(read(text), characters)
    except (ValueError, RecursionError):
        return None


def build(value: Any, characters: int = MAX_TEXT) -> Node:
    """Return the tree of a value. Raises ``RecursionError`` when it is too deep."""
    return _node(None, value, _Budget(MAX_NODES, characters), 0)


def segments(text: str) -> list[Segment]:
    """Split a text at what was redacted."""
    parts = _REDACTED.split(text)
    return [Segment(part, index % 2 == 1) for index, part in enumerate(parts) if part]


def _node(key: str | None, value: Any, left: _Budget, depth: int) -> Node:
    left.nodes -= 1
    if depth > MAX_DEPTH:
        raise RecursionError
    if value in ({}, []):
        return Node(key, "word", [Segment(json.dumps(value), False)], depth=depth)
    if isinstance(value, dict):
        return _branch(Node(key, "object", depth=depth), list(value.items()), left)
    if isinstance(value, list | tuple):
        return _branch(Node(key, "array", depth=depth), [(str(index), item) for index, item in enumerate(value)], left)
    if isinstance(value, Number) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return Node(key, "number", [Segment(left.spend(str(value)), False)], depth=depth)
    if isinstance(value, str):
        return Node(key, "string", segments(left.spend(value)), depth=depth)
    return Node(key, "word", [Segment(json.dumps(value), False)], depth=depth)


def _branch(node: Node, items: list[tuple[str, Any]], left: _Budget) -> Node:
    shown = items[: max(left.nodes, 0)]
    for key, item in shown:
        if left.nodes <= 0:
            break
        node.children.append(_node(left.spend(key), item, left, node.depth + 1))
    node.left_out = len(items) - len(node.children)
    unit = "item" if node.kind == "array" else "key"
    node.summary = f"{len(items)} {unit}{'' if len(items) == 1 else 's'}"
    return node
