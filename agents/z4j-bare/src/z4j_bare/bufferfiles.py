"""Where buffer files live, who holds them, and which ones a dead process left behind.

A POSIX record lock tells the living from the dead: it ends with its process, even after kill -9, and a forked child
does not inherit it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from z4j_core.safety import log_once

try:
    import fcntl
except ImportError:  # Windows: files are never adopted there
    fcntl = None  # type: ignore[assignment]

#: Lock files this very process holds: a record lock does not exclude its own process.
_held: set[tuple[int, str]] = set()


class FileLock:
    """An exclusive lock on ``<path>.lock``, held until :meth:`release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Take the lock without waiting; tell whether it was free."""
        key = (os.getpid(), str(self._path))
        if fcntl is None or key in _held:
            return fcntl is None
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._handle = handle
        _held.add(key)
        return True

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back, with its file when ``remove``."""
        if self._handle is None:
            return
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = None
        _held.discard((os.getpid(), str(self._path)))


def directory(configured: str | None) -> Path | None:
    """Return a private, writable directory for the buffer, ``None`` when there is none and memory must do.

    ``buffer_path`` first, then ``$Z4J_HOME`` or ``~/.z4j`` with ``buffers``, then the temporary directory.
    """
    home = os.environ.get("Z4J_HOME")
    candidates = [Path(configured)] if configured else []
    candidates.append(Path(home) / "buffers" if home else Path("~/.z4j/buffers").expanduser())
    uid = os.getuid() if hasattr(os, "getuid") else 0
    candidates.append(Path(tempfile.gettempdir()) / f"z4j-{uid}")
    for candidate in candidates:
        problem = _prepare(candidate)
        if problem is None:
            return candidate
        log_once("buffer.directory", f"{candidate} cannot hold the event buffer ({problem})", detail=str(candidate))
    log_once("buffer.memory", "no directory can hold the event buffer: events are kept in memory only")
    return None


def siblings(folder: Path, identity: str, own: Path) -> Iterator[Path]:
    """Yield the other buffer files of the same agent identity."""
    for path in sorted(folder.glob(f"buffer-{identity}-*.db")):
        if path != own:
            yield path


def remove(path: Path) -> None:
    """Delete a buffer file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _prepare(folder: Path) -> str | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode):
            return "not a directory"
        if hasattr(os, "getuid") and info.st_uid != os.getuid():
            return "it belongs to another user"
        if info.st_mode & 0o077:
            folder.chmod(0o700)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        return str(error)
