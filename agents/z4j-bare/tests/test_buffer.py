from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from z4j_bare import BufferStore, bufferfiles


def event(n: int = 0, size: int = 10) -> dict[str, Any]:
    return {"id": str(n), "data": {"text": "x" * size}}


def check_books(buffer: BufferStore) -> None:
    counters = buffer.counters()
    assert counters["produced"] + counters["adopted"] == (
        counters["acked"] + counters["buffered"] + sum(counters["dropped"].values())
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer-id-1-1.db"


def test_events_are_numbered_and_kept_until_acknowledged(path: Path) -> None:
    buffer = BufferStore(path)
    buffer.append([event(n) for n in range(5)])
    rows = buffer.read(0, 3, 1 << 20)
    assert [row.n for row in rows] == [1, 2, 3]
    assert f'"_z4j":{{"epoch":"{buffer.epoch}","seq":1}}' in rows[0].body
    buffer.acknowledge([1, 3])
    assert [row.n for row in buffer.read(0, 9, 1 << 20)] == [2, 4, 5]
    check_books(buffer)
    buffer.close()


def test_a_batch_is_bounded_by_bytes_but_never_empty(path: Path) -> None:
    buffer = BufferStore(path)
    buffer.append([event(n, 500) for n in range(5)])
    assert len(buffer.read(0, 9, 1300)) == 2
    assert len(buffer.read(0, 9, 10)) == 1
    buffer.close()


def test_the_oldest_are_dropped_counted_and_reported_as_a_gap(path: Path) -> None:
    buffer = BufferStore(path, max_rows=10)
    buffer.append([event(n) for n in range(25)])
    assert len(buffer) == 10
    assert buffer.gaps() == [{"epoch": buffer.epoch, "from": 1, "to": 15, "reason": "buffer_full", "count": 15}]
    check_books(buffer)
    buffer.close()


def test_bytes_are_capped_too(path: Path) -> None:
    buffer = BufferStore(path, max_bytes=5000)
    buffer.append([event(n, 1000) for n in range(9)])
    assert len(buffer) == 4
    check_books(buffer)
    buffer.close()


def test_numbers_counters_and_commands_survive_the_process(path: Path) -> None:
    buffer = BufferStore(path)
    buffer.append([event(), event()])
    buffer.record_loss(3, "ring_full")
    buffer.remember_command("c1", {"status": "success"})
    epoch, counters = buffer.epoch, buffer.counters()
    buffer.close()
    again = BufferStore(path)
    assert (again.epoch, again.counters()) == (epoch, counters)
    assert again.command("c1") == (True, {"status": "success"})
    assert again.command("c2") == (False, None)
    again.append([event()])
    assert '"seq":6' in again.read(2, 1, 1000)[0].body
    again.close()


def test_commands_are_forgotten_after_their_time(path: Path) -> None:
    now = [1000.0]
    buffer = BufferStore(path, clock=lambda: now[0])
    buffer.remember_command("c1")
    assert buffer.command("c1") == (True, None)
    now[0] += 301
    assert buffer.command("c1") == (False, None)
    buffer.close()


def test_the_file_is_private_and_gone_when_empty(path: Path) -> None:
    buffer = BufferStore(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    buffer.append([event()])
    buffer.acknowledge([1])
    buffer.close()
    assert list(path.parent.iterdir()) == []


def test_what_a_dead_process_left_is_adopted_once(path: Path, tmp_path: Path) -> None:
    left = BufferStore(path)
    left.append([event(n) for n in range(3)])
    left.record_loss(2, "ring_full")
    left.close()
    other = tmp_path / "buffer-other-1-1.db"
    BufferStore(other).close()
    own = BufferStore(tmp_path / "buffer-id-2-2.db")
    own.append([event(9)])
    assert own.adopt(tmp_path, "id") == 3
    assert own.adopt(tmp_path, "id") == 0
    assert [row.body.count(left.epoch) for row in own.read(0, 9, 1 << 20)] == [0, 1, 1, 1]
    assert own.gaps()[0]["epoch"] == left.epoch
    counters = own.counters()
    assert (counters["produced"], counters["adopted"], counters["dropped"]) == (6, 0, {"ring_full": 2})
    assert not path.exists()
    check_books(own)
    own.close()


def test_what_a_dead_process_had_told_is_not_told_again(path: Path, tmp_path: Path) -> None:
    left = BufferStore(path)
    left.append([event(n) for n in range(4)])
    left.record_loss(2, "ring_full")
    left.acknowledge([1])
    left.told(left.counters())
    left.append([event(n) for n in range(5)])
    left.record_loss(1, "not_json")
    left.acknowledge([2, 3])
    left.close()
    own = BufferStore(tmp_path / "buffer-id-2-2.db")
    assert own.adopt(tmp_path, "id") == 6
    assert own.counters() == {
        "produced": 6, "adopted": 3, "sent": 0, "acked": 2, "buffered": 6, "dropped": {"not_json": 1},
    }  # fmt: skip
    check_books(own)
    own.close()


def test_a_loss_that_was_not_told_outlives_an_empty_buffer(path: Path, tmp_path: Path) -> None:
    left = BufferStore(path)
    left.record_loss(2, "ring_full")
    left.close()
    own = BufferStore(tmp_path / "buffer-id-2-2.db")
    assert own.adopt(tmp_path, "id") == 0
    assert own.counters()["dropped"] == {"ring_full": 2}
    own.told(own.counters())
    own.close()
    assert list(tmp_path.iterdir()) == []


def test_an_heir_that_died_before_it_removed_what_it_inherited_counts_it_once(path: Path, tmp_path: Path) -> None:
    left = BufferStore(path)
    left.append([event(n) for n in range(3)])
    left.record_loss(2, "ring_full")
    left.close()
    copy = path.read_bytes()
    for name in ("buffer-id-2-2.db", "buffer-id-0-0.db"):  # found behind, and before, the file it had inherited
        heir = BufferStore(tmp_path / name)
        assert heir.adopt(tmp_path, "id") == 3
        heir.close()
        path.write_bytes(copy)
    own = BufferStore(tmp_path / "buffer-id-9-9.db")
    assert own.adopt(tmp_path, "id") == 3
    counters = own.counters()
    assert (counters["produced"], counters["buffered"], counters["dropped"]) == (5, 3, {"ring_full": 2})
    assert own.path is not None
    assert [one.name for one in tmp_path.glob("*.db")] == [own.path.name]
    check_books(own)
    own.close()


def test_an_heir_whose_own_disk_fails_leaves_the_file_as_it_is(path: Path, tmp_path: Path) -> None:
    left = BufferStore(path)
    left.append([event(n) for n in range(3)])
    left.close()
    own = BufferStore(tmp_path / "buffer-id-2-2.db")
    own.append([event(9)])
    blocker = sqlite3.connect(own.path)
    blocker.execute("BEGIN IMMEDIATE")
    assert own.adopt(tmp_path, "id") == 3
    assert len(own) == 4
    assert path.exists()
    assert not list(tmp_path.glob("*.corrupt"))
    check_books(own)
    blocker.close()
    own.close()


def test_the_file_of_a_living_process_is_left_alone(path: Path, tmp_path: Path) -> None:
    living = BufferStore(path)
    living.append([event()])
    own = BufferStore(tmp_path / "buffer-id-2-2.db")
    assert own.adopt(tmp_path, "id") == 0
    assert len(living) == 1
    living.close()
    own.close()


def test_a_damaged_file_is_set_aside(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)
    buffer = BufferStore(path)
    buffer.append([event()])
    assert len(buffer) == 1
    assert path.with_name(path.name + ".corrupt").exists()
    buffer.close()


def test_a_damaged_left_over_does_not_stop_the_others(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)
    own = BufferStore(tmp_path / "buffer-id-2-2.db")
    assert own.adopt(tmp_path, "id") == 0
    assert not path.exists()
    own.close()


def test_a_disk_that_cannot_be_written_moves_the_buffer_to_memory(path: Path) -> None:
    buffer = BufferStore(path)
    buffer.append([event(n) for n in range(3)])
    buffer._database.execute("PRAGMA query_only=ON")
    buffer.append([event(3)])
    assert [row.n for row in buffer.read(0, 9, 1 << 20)] == [1, 2, 3, 4]
    assert '"seq":4' in buffer.read(3, 1, 1000)[0].body
    buffer.acknowledge([1, 2, 3, 4])
    check_books(buffer)
    with contextlib.closing(sqlite3.connect(path)) as left:
        assert left.execute("SELECT count(*) FROM event").fetchone() == (3,), (
            "for an heir, should this process be killed"
        )
    buffer.close()
    assert not path.exists(), "everything in it was delivered out of memory"


def spoil(path: Path, what: bytes, by: bytes) -> int:
    """Overwrite bytes in a file while it is in use; return how often they were found."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content.replace(what, by))
    return content.count(what)


def test_an_event_that_rotted_on_disk_is_dropped_alone_and_counted(path: Path) -> None:
    buffer = BufferStore(path)
    buffer.append([event(n) | {"task_id": f"task-{n:04}"} for n in range(50)])
    buffer.close()
    assert spoil(path, b"task-0007", b"task-\xff\x0007") == 1
    buffer = BufferStore(path)
    rows = buffer.read(0, 100, 1 << 20)
    assert len(rows) == 49
    assert not any("task-0007" in row.body for row in rows)
    assert buffer.counters()["dropped"] == {"buffer_damaged": 1}
    assert [(gap["from"], gap["to"], gap["count"]) for gap in buffer.gaps()] == [(8, 8, 1)]
    check_books(buffer)
    buffer.close()


def test_a_rotten_event_at_the_head_does_not_hide_those_behind_it(path: Path) -> None:
    buffer = BufferStore(path)
    buffer.append([event(n) | {"task_id": f"task-{n:04}"} for n in range(3)])
    buffer.close()
    spoil(path, b"task-0000", b"task-9999")
    buffer = BufferStore(path)
    assert [row.n for row in buffer.read(0, 1, 1 << 20)] == [2]
    check_books(buffer)
    buffer.close()


def test_what_cannot_be_read_of_a_damaged_file_is_counted(path: Path) -> None:
    buffer = BufferStore(path)
    buffer.append([event(n) | {"pad": "x" * 500} for n in range(2000)])
    buffer._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    buffer._database.execute("PRAGMA cache_size=1")
    with path.open("r+b") as file:
        file.seek(100 * 4096)
        file.write(b"\xff" * 4096 * 20)
    seen, after = 0, 0
    while rows := buffer.read(after, 100, 1 << 20):
        seen, after = seen + len(rows), rows[-1].n
    lost = buffer.counters()["dropped"]["buffer_damaged"]
    assert 0 < seen < 2000
    assert seen + lost == 2000
    assert sum(gap["count"] for gap in buffer.gaps()) == lost
    check_books(buffer)
    buffer.close()


def test_an_heir_counts_what_rotted_in_what_it_inherits(path: Path, tmp_path: Path) -> None:
    left = BufferStore(path)
    left.append([event(n) | {"task_id": f"task-{n:04}"} for n in range(10)])
    left.told(left.counters())
    left.close()
    spoil(path, b"task-0004", b"task-4444")
    own = BufferStore(tmp_path / "buffer-id-2-2.db")
    assert own.adopt(tmp_path, "id") == 9
    assert own.counters()["dropped"] == {"buffer_damaged": 1}
    check_books(own)
    own.close()


def test_a_directory_that_cannot_be_used_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    monkeypatch.setenv("Z4J_HOME", str(tmp_path / "home"))
    assert bufferfiles.directory(str(occupied)) == tmp_path / "home" / "buffers"
    assert stat.S_IMODE(os.stat(tmp_path / "home" / "buffers").st_mode) == 0o700
    monkeypatch.setenv("Z4J_HOME", str(occupied))
    monkeypatch.setattr(bufferfiles.tempfile, "gettempdir", lambda: str(occupied))
    assert bufferfiles.directory(str(occupied)) is None
