"""What every page has in common: a strict policy, no inline code, everything escaped."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from django.urls import reverse

from brain.models import AgentProcess, Command, Event, Quarantine
from tests.dashboard.conftest import XSS
from tests.dashboard.test_access import project_urls

pytestmark = pytest.mark.django_db


class Inline(HTMLParser):
    """Collects what a strict policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        self.found += [f"{tag} {name}" for name in names if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [f"{name}={value}" for name, value in attrs if value and re.match(r"\s*javascript:", value, re.I)]
        self.found += [f"{tag} {value}" for name, value in attrs if name in {"src", "href"} and "//" in (value or "")]


def inline(html: str) -> list[str]:
    parser = Inline()
    parser.feed(html)
    return parser.found


@pytest.fixture
def hostile(make_task, agent, project, cast):
    """A task, its events, an agent and its process, full of markup; returns every address of the project."""
    task = make_task(
        "failed",
        task_id=XSS,
        name=XSS,
        queue=XSS,
        worker=XSS,
        args=f'["{"<b>"}", {{"k<i>": "[redacted:<u>]"}}]',
        kwargs=XSS,
        result=XSS,
        exception=XSS,
        exception_message=XSS,
        traceback=XSS,
        group_id=XSS,
        parent_task_id=XSS + "p",
        replayable=False,
        replay_reason=XSS,
    )
    Event.objects.create(
        project=project, agent=agent.agent, engine="celery", kind=f"task.{XSS[:30]}", task_id=XSS, worker=XSS,
        occurred_at=task.created_at, received_at=task.created_at, flags=XSS[:50], payload=json.dumps({XSS: [XSS]}),
    )  # fmt: skip
    Command.objects.create(
        project=project, agent=agent.agent, action="retry_task", engine="celery", target_type="task",
        target_id=f"celery:{XSS}", state="failed", issued_by_label=XSS, error=XSS, result={"verified": XSS, XSS: 1},
        expires_at=task.created_at,
    )  # fmt: skip
    AgentProcess.objects.create(
        agent=agent.agent, project=project, worker_id=XSS, session_id="s", name=XSS, host=XSS, framework=XSS,
        engines=[XSS], health={"celery.notes": XSS, f"{XSS}.broker_connected": XSS}, release=XSS, environment=XSS[:60],
    )  # fmt: skip
    Quarantine.objects.create(project=project, agent=agent.agent, reason=XSS, content=XSS)
    return [*project_urls(task.pk, agent.agent.pk), f"{reverse('tasks', args=['shop'])}?q=%3Cscript%3E"]


def test_markup_from_outside_is_shown_as_text(alice, hostile):
    for url in hostile:
        text = alice.get(url).text
        assert "<script>alert" not in text, url
        assert "<img" not in text, url
        assert inline(text) == [], url


def test_no_page_has_inline_code_or_foreign_addresses(alice, project, client):
    for name in ("overview", "tasks", "agents", "connect"):
        assert inline(alice.get(reverse(name, args=["shop"])).text) == [], name
    assert inline(client.get("/login/").text) == []
    assert inline(alice.get("/p/nowhere/").text) == []


def test_the_policy_is_strict_on_every_answer(alice, hostile, client):
    for url in [*hostile, "/p/nowhere/", "/nowhere"]:
        policy = alice.get(url)["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert "unsafe" not in policy
    assert "script-src 'self'" in client.get("/login/")["Content-Security-Policy"]


def test_pages_are_not_kept_by_caches(alice, hostile):
    for url in hostile:
        assert "no-store" in alice.get(url)["Cache-Control"], url
