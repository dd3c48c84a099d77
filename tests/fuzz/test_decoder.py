"""The readers of a peer's bytes under fuzzing: found cases are replayed, then new ones are looked for."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.delivery.campaign import SEED, SOAK
from tests.fuzz import targets
from tests.fuzz.seeds import DICTIONARY, seeds

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600 if SOAK else 25
#: Inputs a run must have tried; on two quiet cores it tries about five times as many.
MINIMUM = 800 * SECONDS
LONGEST = 4096

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="THE DECODER IS NOT FUZZED HERE: atheris has wheels for Linux on x86-64 and Python 3.11 only",
)


def test_what_fuzzing_begins_with_and_what_it_found_is_taken_as_it_should_be():
    """Golden frames, hostile values and the files in ``cases``; the short ones also with a very long middle."""
    known = seeds(2**20)
    assert len(known) > 100
    for seed in known:
        targets.check(seed)
        if len(seed) <= 64:
            targets.check(targets.stretched(seed, 256 * 1024))


@needs_atheris
@pytest.mark.slow
def test_no_bytes_of_a_peer_get_past_the_readers(tmp_path, record_property):
    corpus, found = tmp_path / "corpus", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    for number, seed in enumerate(seeds(LONGEST)):
        (corpus / f"{number:04}").write_bytes(seed)
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.fuzz.decoder", f"-max_total_time={SECONDS}", f"-max_len={LONGEST}",
            f"-seed={SEED % 2**31 + 1}", f"-dict={DICTIONARY}", f"-artifact_prefix={found}/", "-timeout=20",
            "-rss_limit_mb=2048", "-print_final_stats=1", str(corpus),
        ],
        cwd=ROOT, env={**os.environ, "Z4J_HOME": str(tmp_path)}, capture_output=True, text=True, errors="replace",
        timeout=SECONDS + 120, check=False,
    )  # fmt: skip
    log = done.stdout + done.stderr
    executed = int((re.findall(r"number_of_executed_units: (\d+)", log) or ["0"])[-1])
    covered = int((re.findall(r"cov: (\d+)", log) or ["0"])[-1])
    line = (
        f"decoder fuzzed: seed {SEED}, {executed:,} executions of at least {MINIMUM:,} in {SECONDS} s, "
        f"{covered:,} edges covered, {len(list(corpus.iterdir())):,} inputs kept"
    )
    print(line)
    record_property("outcome", line)
    cases = [f"{path.name}: {path.read_bytes()!r}" for path in found.iterdir()]
    assert done.returncode == 0 and not cases, "\n".join([*cases, "put it into tests/fuzz/cases", log[-6000:]])
    assert executed >= MINIMUM, log[-2000:]
