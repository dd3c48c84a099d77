"""Starting: what goes wrong is said in one line, and what runs already is left alone."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.request
import uuid

import pytest

from tests.brainprocess import ROOT, BrainProcess, running_brain

LINK = re.compile(r"/setup/\S+")


def serve(brain: BrainProcess, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``z4j serve`` to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "serve", *options],
        env={**brain.environment, **environment}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def fresh():
    """A brain nobody has set up."""
    with running_brain(Z4J_BOOTSTRAP_ADMIN_EMAIL="", Z4J_BOOTSTRAP_ADMIN_PASSWORD="") as brain:
        yield brain


def test_a_port_in_use_and_a_home_in_use_are_refused_and_the_setup_link_stays_good(fresh, tmp_path):
    link = LINK.search(fresh.text()).group()
    taken = serve(fresh, "--port", str(fresh.port))
    assert taken.returncode == 1
    assert "Cannot listen on" in taken.stderr
    assert "setup" not in taken.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = str(probe.getsockname()[1])
    second = serve(fresh, "--port", other)
    assert second.returncode == 1
    assert "another brain is running" in second.stderr
    assert "Traceback" not in taken.stderr + second.stderr
    with urllib.request.urlopen(fresh.url + link) as page:
        assert page.status == 200


def test_an_absent_database_is_said_in_one_line(fresh):
    url = "postgresql://nobody:hunter2@127.0.0.1:9/none"
    done = serve(fresh, "--port", "0", Z4J_DATABASE_URL=url, Z4J_HOME=str(fresh.home / "other"))
    assert done.returncode == 1
    assert "the database does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_two_brains_may_start_at_once_on_one_empty_postgresql(postgres):
    url = postgres.create(f"boot{uuid.uuid4().hex[:8]}")
    brains = [BrainProcess(url, Z4J_SECRET="s" * 32, Z4J_SESSION_SECRET="t" * 32) for _ in range(2)]
    try:
        for brain in brains:
            brain.launch()
        for brain in brains:
            brain.wait()
        assert brains[0].query("Project.objects.count()") == 2
    finally:
        for brain in brains:
            brain.remove()
