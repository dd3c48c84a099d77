"""JSON text as a tree to render: numbers keep their spelling, redacted spans are told apart. Pure."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

#: Nodes shown of one document; what lies beyond is counted.
MAX_NODES = 1500
#: Deeper documents are shown as text.
MAX_DEPTH = 40
_REDACTED = re.compile(r"(\[redacted[^\[\]]{0,64}\])")


class _Number(str):
    """A number as it was spelled."""

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


def parse(text: str) -> Node | None:
    """Return the tree of a JSON text; None when it is not JSON, or too deep."""
    try:
        value = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
        return build(value)
    except (ValueError, RecursionError):
        return None


def build(value: Any) -> Node:
    """Return the tree of a value. Raises ``RecursionError`` when it is too deep."""
    return _node(None, value, [MAX_NODES], 0)


def segments(text: str) -> list[Segment]:
    """Split a text at what was redacted."""
    parts = _REDACTED.split(text)
    return [Segment(part, index % 2 == 1) for index, part in enumerate(parts) if part]


def _node(key: str | None, value: Any, left: list[int], depth: int) -> Node:
    left[0] -= 1
    if depth > MAX_DEPTH:
        raise RecursionError
    if value in ({}, []):
        return Node(key, "word", [Segment(json.dumps(value), False)], depth=depth)
    if isinstance(value, dict):
        return _branch(Node(key, "object", depth=depth), list(value.items()), left)
    if isinstance(value, list | tuple):
        return _branch(Node(key, "array", depth=depth), [(str(index), item) for index, item in enumerate(value)], left)
    if isinstance(value, _Number) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return Node(key, "number", [Segment(str(value), False)], depth=depth)
    if isinstance(value, str):
        return Node(key, "string", segments(value), depth=depth)
    return Node(key, "word", [Segment(json.dumps(value), False)], depth=depth)


def _branch(node: Node, items: list[tuple[str, Any]], left: list[int]) -> Node:
    shown = items[: max(left[0], 0)]
    for key, item in shown:
        if left[0] <= 0:
            break
        node.children.append(_node(key, item, left, node.depth + 1))
    node.left_out = len(items) - len(node.children)
    unit = "item" if node.kind == "array" else "key"
    node.summary = f"{len(items)} {unit}{'' if len(items) == 1 else 's'}"
    return node
