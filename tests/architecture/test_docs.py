"""The docs name everything there is to name."""

from __future__ import annotations

import re
from pathlib import Path

from brain.gateway import handshake
from brain.states import COMMAND_NEXT, RANK
from z4j_project.config import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text()


def test_every_variable_is_documented_and_no_other_is_read():
    documented = read("reference/configuration.md")
    assert all(f"`{name}`" in documented for name in VARIABLES)
    source = (ROOT / "z4j_project" / "config.py").read_text()
    assert set(re.findall(r'"(Z4J_[A-Z_]+)"', source)) == set(VARIABLES)


def test_only_config_reads_the_environment():
    readers = [
        str(path.relative_to(ROOT))
        for app in ("z4j_project", "brain", "audit", "dashboard")
        for path in (ROOT / app).rglob("*.py")
        if re.search(r"^(?!\s*'|\s*\").*os\.(environ\b(?!\.setdefault)|getenv)", path.read_text(), re.MULTILINE)
    ]
    assert readers == ["z4j_project/config.py"]


def test_every_close_code_is_documented():
    documented = read("reference/close-codes.md")
    codes = [
        value for name, value in vars(handshake).items() if name.isupper() and isinstance(value, int) and value >= 4000
    ]
    assert codes
    assert all(f"| {code} |" in documented for code in codes)


def test_the_table_of_task_states_is_the_code():
    rows = re.findall(r"^\| (\d) \| `(\w+)` \|", read("concepts/states.md"), re.MULTILINE)
    assert {state: int(rank) for rank, state in rows} == {str(state): rank for state, rank in RANK.items()}


def test_the_table_of_command_states_is_the_code():
    text = read("concepts/states.md").split("## Commands")[1]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", text, re.MULTILINE)
    drawn = {state: set(re.findall(r"`(\w+)`", following)) for state, following in rows}
    assert drawn == {str(state): {str(new) for new in following} for state, following in COMMAND_NEXT.items()}


def test_every_check_and_command_is_documented():
    checks = read("reference/checks.md")
    for path in (ROOT / "brain" / "checks.py",):
        assert all(identifier in checks for identifier in re.findall(r'id="(z4j\.\w+)"', path.read_text()))
    commands = read("reference/commands.md")
    for folder in ("brain", "z4j_project"):
        for path in (ROOT / folder / "management" / "commands").glob("[a-z]*.py"):
            assert f"z4j {path.stem}" in commands


def test_links_inside_the_docs_lead_somewhere():
    broken = []
    for path in [*DOCS.rglob("*.md"), ROOT / "README.md", *ROOT.glob("agents/*/README.md"), *ROOT.glob("agents/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []
