"""A real Chromium for the browser tests, or a loud reason why not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.brainprocess import EMAIL, PASSWORD, BrainProcess

# Two busy cores may take longer than the usual five seconds; what is expected still has to come.
expect.set_options(timeout=20_000)

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def page(**options: Any) -> Iterator[Page]:
    """Open a page in a fresh profile; skips loudly, or fails in continuous integration, where there is no Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        reason = "BROWSER TESTS NOT RUN: no chromium on this machine"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            context = browser.new_context(**options)
            opened = context.new_page()
            opened.set_default_timeout(20_000)
            yield opened
        finally:
            browser.close()


def sign_in(opened: Page, brain: BrainProcess) -> None:
    """Sign in as the administrator."""
    opened.goto(f"{brain.url}/login/")
    opened.fill("input[name=username]", EMAIL)
    opened.fill("input[name=password]", PASSWORD)
    opened.click("button[type=submit]:not([data-theme-toggle])")
    opened.wait_for_url("**/p/**")
