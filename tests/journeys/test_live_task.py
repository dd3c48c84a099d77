"""The journey: real tasks in a real worker move on an open page, and its buttons do what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.brainprocess import ROOT, BrainProcess, eventually, running_brain
from tests.journeys.chromium import page, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.slow]


class Shop:
    """The app: its worker, its clients, its journal of what really ran."""

    def __init__(self, brain: BrainProcess, broker: str, directory: Path) -> None:
        credential = brain.mint("journey")
        self.journal = directory / "journal"
        self.journal.touch()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("Z4J_")}
        self.environment = {
            **inherited,
            "BROKER": broker,
            "JOURNAL": str(self.journal),
            "Z4J_BRAIN_URL": brain.url,
            "Z4J_TOKEN": credential["token"],
            "Z4J_HOME": str(directory / "agents"),
            "PYTHONPATH": str(ROOT),
        }
        self.log = directory / "worker.log"
        self.worker: subprocess.Popen[bytes] | None = None

    def start_worker(self, *options: str) -> None:
        """Start the worker."""
        command = [sys.executable, "-m", "celery", "-A", "tests.journeys.shopapp", "worker", "-c", "2", *options]
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen(
                command, env=self.environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def stop_worker(self) -> None:
        """Stop the worker as an operator would."""
        if self.worker is None:
            return
        self.worker.send_signal(signal.SIGTERM)
        try:
            self.worker.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait()
            raise
        finally:
            self.worker = None

    def send(self, code: str) -> None:
        """Run client code in a process of its own."""
        script = f"from tests.journeys.shopapp import *\n{code}"
        subprocess.run([sys.executable, "-c", script], env=self.environment, cwd=ROOT, check=True, timeout=60)

    def ran(self) -> list[str]:
        """Return what really ran."""
        return self.journal.read_text().splitlines()


@pytest.fixture
def brain() -> Iterator[BrainProcess]:
    """A brain of its own for each test."""
    with running_brain() as process:
        yield process


@pytest.fixture
def shop(brain, tmp_path, valkey_url) -> Iterator[Shop]:
    """The app, on a broker database of its own."""
    made = Shop(brain, f"{valkey_url}/7", tmp_path)
    try:
        yield made
    finally:
        made.stop_worker()


def total_of(opened: Page) -> Callable[[], int]:
    """Return a reader of the list's total."""
    return lambda: int(opened.locator("#task-total").get_attribute("data-total") or -1)


def series(opened: Page, name: str) -> int:
    """Return a total of the overview's chart."""
    return int(opened.locator(f"#chart-legend [data-series={name}]").get_attribute("data-value") or -1)


def task_page(opened: Page, brain: BrainProcess, **conditions: object) -> int:
    """Open the page of the first task that meets the conditions; return its key."""
    find = f"list(Task.objects.filter(**json.loads('''{json.dumps(conditions)}''')).values_list('pk', flat=True)[:1])"
    (key,) = eventually(lambda: brain.query(find), timeout=20)
    opened.goto(f"{brain.url}/p/default/tasks/{key}/")
    return int(key)


def press(opened: Page, action: str) -> None:
    """Press an action's button and confirm."""
    opened.locator(f"#do-{action}").click()
    opened.locator("dialog[open] [data-accept]").click()


def test_two_hundred_tasks_reach_the_open_pages_without_a_reload(brain, shop):
    shop.start_worker()
    with page(viewport={"width": 1280, "height": 900}) as listing:
        problems: list[str] = []
        listing.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        listing.on("pageerror", lambda error: problems.append(str(error)))
        sign_in(listing, brain)
        overview = listing.context.new_page()
        overview.goto(f"{brain.url}/p/default/")
        listing.goto(f"{brain.url}/p/default/tasks/")
        shop.send("for n in range(180): work.delay(n, shop='Größe')\nfor n in range(20): flaky.delay(n)")
        eventually(lambda: total_of(listing)() == 200, timeout=60)
        listing.bring_to_front()
        eventually(lambda: (series(overview, "succeeded"), series(overview, "failed")) == (182, 18), timeout=60)
        assert series(overview, "retried") == 40
        expect(listing.locator("tr[data-task-id]").first).to_be_visible()
        eventually(lambda: listing.locator("tr[data-state=succeeded], tr[data-state=failed]").count() >= 50, timeout=20)
        # The empty list filled itself with what was there then; what came since waits in the pill.
        if listing.locator("#new-pill").is_visible():
            listing.locator("#new-pill").click()
        expect(listing.locator("#new-pill")).to_have_attribute("data-new", "0")
        shop.send("for n in range(3): work.delay(n, late=True)")
        expect(listing.locator("#new-pill")).to_have_attribute("data-new", "3")
        listing.locator("#new-pill").click()
        expect(listing.locator("tr[data-task-id]").first).to_contain_text("late")
        listing.goto(f"{brain.url}/p/default/tasks/?state=failed")
        assert total_of(listing)() == 18
        assert problems == []
    ran = shop.ran()
    assert len([line for line in ran if line.startswith("work")]) == 183
    assert len([line for line in ran if line.startswith("flaky")]) == 60


def test_retry_runs_it_again_with_the_same_arguments_and_says_so(brain, shop):
    shop.start_worker()
    shop.send("work.delay(9, big=2**60 + 1, text='naïve')")
    with page() as opened:
        sign_in(opened, brain)
        task_page(opened, brain, name="journey.work", state="failed")
        assert str(2**60 + 1) in opened.locator("#arguments").inner_text()
        press(opened, "retry_task")
        expect(opened.locator("[data-action=retry_task][data-state=succeeded]").first).to_be_visible()
        assert len(set(eventually(lambda: len(shop.ran()) == 2 and shop.ran(), timeout=20))) == 1
        assert brain.query("Task.objects.filter(name='journey.work', state='failed').count()") == 2
        actions = brain.query(
            "list(__import__('audit.models').models.Entry.objects.order_by('id').values_list('action', 'outcome'))"
        )
        assert ["task.retry_task", "allowed"] in actions
        assert ["task.retry_task.result", "succeeded"] in actions


def test_cancel_prevents_a_pending_task_and_stops_a_running_one(brain, shop):
    shop.start_worker()
    shop.send("sleep.apply_async((0.1,), countdown=20)\nwork.delay(1)")
    with page() as opened:
        sign_in(opened, brain)
        task_page(opened, brain, name="journey.sleep", state="received")
        press(opened, "cancel_task")
        expect(opened.locator("[data-action=cancel_task][data-state=succeeded]").first).to_be_visible()
        shop.send("sleep.delay(600)")
        task_page(opened, brain, name="journey.sleep", state="started")
        press(opened, "cancel_task")
        expect(opened.locator("[data-action=cancel_task][data-state=succeeded]").first).to_be_visible()
        expect(opened.locator("#task-body[data-state=revoked]")).to_be_visible()
        pending = "list(Task.objects.filter(name='journey.sleep').order_by('id').values_list('state', flat=True))"
        eventually(lambda: brain.query(pending) == ["revoked", "revoked"], timeout=40, interval=1)
        assert shop.ran().count("sleep") == 1, "the pending one never ran"


def test_a_stopped_worker_is_said_to_be_gone_and_the_buttons_say_why(brain, shop):
    shop.start_worker()
    shop.send("work.delay(9)")
    with page() as opened:
        sign_in(opened, brain)
        task_page(opened, brain, name="journey.work", state="failed")
        shop.stop_worker()
        expect(opened.get_by_text("No connected agent can do this on celery now.").first).to_be_visible()
