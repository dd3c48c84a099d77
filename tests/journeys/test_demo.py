"""``make demo`` as a new user meets it: life on the screen within 90 seconds, and nothing left after Ctrl-C."""

from __future__ import annotations

import http.cookiejar
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import psutil
import pytest

from tests.brainprocess import ROOT, eventually

pytestmark = pytest.mark.slow


class Browser:
    """Just enough of a browser to sign in and read pages."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> str:
        with self.opener.open(self.url + path, timeout=10) as answer:
            return answer.read().decode()

    def sign_in(self, email: str, password: str) -> str:
        page = self.get("/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token
        form = {"csrfmiddlewaretoken": token.group(1), "username": email, "password": password}
        data = urllib.parse.urlencode(form).encode()
        with self.opener.open(f"{self.url}/login/", data, timeout=10) as answer:
            return answer.geturl()


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
        browser = Browser(url.rstrip("/"))
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
