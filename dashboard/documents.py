"""The long texts of a task as its page shows them: a tree or text, and never more of it than a page can bear."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from brain.models import Task
from dashboard import jsontree
from dashboard.formats import clip

#: Characters shown of one text; the rest is fetched by who copies it.
MAX_TEXT = 64 * 1024
#: The address of a whole text, by its name.
Address = Callable[[str], str]
#: Label and name; the name is the task's field.
_LABELS = (("Arguments", "args"), ("Keyword arguments", "kwargs"), ("Result", "result"))


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """Arguments or a result: a tree when it is JSON, else text. ``copied`` is empty when ``url`` has the text."""

    label: str
    anchor: str
    tree: jsontree.Node | None
    segments: list[jsontree.Segment]
    copied: str
    url: str


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """What a task failed with."""

    told: bool
    message: str
    traceback: str
    copied: str
    url: str


def documents(task: Task, address: Address) -> list[Document]:
    """Return arguments and result."""
    return [_document(label, name, text, address(name)) for label, name in _LABELS if (text := getattr(task, name))]


def failure(task: Task, address: Address) -> Failure:
    """Return what a task failed with."""
    text = error_text(task)
    told = bool(task.exception or task.exception_message or task.traceback)
    shown = clip(task.exception_message, MAX_TEXT), clip(task.traceback, MAX_TEXT)
    return Failure(told, *shown, *_copied(text, address("error")))


def whole(task: Task, name: str) -> str | None:
    """Return a text of a task uncut; None when there is none of this name."""
    if name == "error":
        return error_text(task)
    return getattr(task, name) if name in {anchor for _, anchor in _LABELS} else None


def error_text(task: Task) -> str:
    """Return exception, message and traceback as one text."""
    head = ": ".join(part for part in (task.exception, task.exception_message) if part)
    return "\n\n".join(part for part in (head, task.traceback) if part)


def _document(label: str, name: str, text: str, url: str) -> Document:
    # A result that was a string is stored as its content, which must not be read as JSON by accident.
    tree = jsontree.parse(text, MAX_TEXT) if name != "result" or text[:1] in "[{" else None
    segments = [] if tree else jsontree.segments(clip(text, MAX_TEXT))
    return Document(label, name, tree, segments, *_copied(text, url))


def _copied(text: str, url: str) -> tuple[str, str]:
    return ("", url) if len(text) > MAX_TEXT else (text, "")
