"""Verification: honest logs are intact, tampered ones are not, and the database refuses to be changed."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.utils import DatabaseError

from audit import checkpoints, keys, retention, triggers, verify
from audit.errors import Tampered
from audit.record import record
from audit.sinks import FileSink

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]
CHAIN = uuid.uuid4()


@pytest.fixture
def log():
    """A chain of twelve entries."""
    for number in range(12):
        record(chain_id=CHAIN, actor="alice@example.com", action="task.retry", target=f"task:{number}")


def tamper(statement: str, *arguments: object) -> None:
    triggers.drop(connection)
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
    triggers.create(connection)


def found(anchors: verify.Anchors | None = None) -> set[str]:
    report = verify.verify(keys.ring(), anchors=anchors, deep=True)
    assert report.status == (verify.TAMPERED if report.chains[0].found else verify.INTACT)
    return {one.kind for chain in report.chains for one in chain.found}


def test_an_honest_log_is_intact(log, tmp_path):
    file = tmp_path / "anchors"
    checkpoints.make(CHAIN, to=[FileSink(file)])
    record(chain_id=CHAIN, actor="bob", action="task.cancel", target="task:é")
    checkpoints.make(CHAIN, to=[FileSink(file)])
    anchors = verify.read_anchors(file.read_text().splitlines(), keys.ring())
    assert len(anchors.points[CHAIN]) == 2
    assert found(anchors) == set()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE z4j_audit_entry SET body = replace(body, 'alice', 'mallory') WHERE seq = 5", "mac"),
        ("DELETE FROM z4j_audit_entry WHERE seq = 5", "gap"),
        ("DELETE FROM z4j_audit_entry WHERE seq = 12", "truncated"),
        ("UPDATE z4j_audit_entry SET actor = 'mallory' WHERE seq = 5", "column"),
        ("UPDATE z4j_audit_entry SET key_id = 'other' WHERE seq = 5", "key"),
        ("UPDATE z4j_audit_entry SET seq = 0 WHERE seq = 5", "order"),
        ("UPDATE z4j_audit_chain SET size = 11", "head"),
    ],
)
def test_each_tamper_has_its_name(log, statement, kind):
    tamper(statement)
    assert found() == {kind}
    assert triggers.differences(connection) == []


def test_what_is_cut_off_with_its_head_contradicts_an_anchor(log, tmp_path):
    checkpoints.make(CHAIN, to=[FileSink(tmp_path / "anchors")])
    head = bytes(record(chain_id=CHAIN, actor="a", action="b", target="c").mac)
    assert head
    for table in ("checkpoint", "entry", "chain"):
        tamper(f"DELETE FROM z4j_audit_{table}")
    assert verify.verify(keys.ring()).status == verify.INTACT
    anchors = verify.read_anchors((tmp_path / "anchors").read_text().splitlines(), keys.ring())
    assert found(anchors) == {"truncated"}


@pytest.mark.parametrize("table", ["entry", "chain", "checkpoint"])
def test_the_database_refuses_changes(log, table):
    checkpoints.make(CHAIN, to=[])
    column = "size = size - 1" if table == "chain" else "text = ''" if table == "checkpoint" else "body = ''"
    for statement in (f"UPDATE z4j_audit_{table} SET {column}", f"DELETE FROM z4j_audit_{table}"):
        with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
            cursor.execute(statement)
    if connection.vendor == "postgresql":
        with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE z4j_audit_{table} CASCADE")
    else:
        with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
            cursor.execute(f"INSERT OR REPLACE INTO z4j_audit_{table} SELECT * FROM z4j_audit_{table} LIMIT 1")


def test_a_missing_trigger_is_found(log):
    triggers.drop(connection)
    try:
        report = verify.verify(keys.ring())
        assert "z4j_audit_entry_update" in report.triggers
        assert report.status == verify.TAMPERED
    finally:
        triggers.create(connection)


def test_no_checkpoint_is_signed_over_a_tampered_entry(log):
    tamper("UPDATE z4j_audit_entry SET body = '{}' WHERE seq = 5")
    with pytest.raises(Tampered):
        checkpoints.make(CHAIN, to=[])


def test_a_pruned_chain_is_intact_and_its_carry_cannot_be_forged(log, tmp_path):
    checkpoints.make(CHAIN, to=[])
    assert retention.prune(CHAIN, datetime.now(UTC) + timedelta(days=1), tmp_path / "export") == 11
    checkpoints.make(CHAIN, to=[])
    assert found() == set()
    tamper("UPDATE z4j_audit_carry SET pruned_to = 10")
    assert found() & {"signature", "gap"}


def test_the_command_tells_it_as_json_and_by_its_status(log, capsys):
    call_command("audit", "verify", "--json")
    assert json.loads(capsys.readouterr().out)["status"] == "intact"
    tamper("DELETE FROM z4j_audit_entry WHERE seq = 3")
    with pytest.raises(SystemExit) as end:
        call_command("audit", "verify", "--json")
    assert end.value.code == verify.TAMPERED
    [chain] = json.loads(capsys.readouterr().out)["chains"]
    assert [(one["kind"], one["seq"]) for one in chain["found"]] == [("gap", 3)]
