"""``make demo`` as a new user meets it: life on the screen within 90 seconds, and nothing left after Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.brainprocess import ROOT, eventually
from tests.webclient import WebClient

pytestmark = pytest.mark.slow


def test_the_demo_shows_life_and_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", "--state", str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    try:
        assert process.stdout is not None
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, f"the demo ended: {printed}"
            printed += line
        url, email, password = (
            re.search(rf"{word}\s+(\S+)", printed).group(1) for word in ("open", "sign in", "password")
        )
        browser = WebClient(url.rstrip("/"))
        assert browser.sign_in(email, password).endswith("/p/default/")
        for state in ("succeeded", "failed", "started"):
            eventually(lambda: 'data-task-id="' in browser.get(f"/p/default/tasks/?state={state}"), timeout=60)  # noqa: B023
        eventually(lambda: re.search(r"retried", browser.get("/p/default/")), timeout=60)
        assert time.monotonic() - began < 90
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 5
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
