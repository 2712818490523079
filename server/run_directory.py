"""The private directory of one running server: sockets, configuration, metrics files.

Its ``metrics`` are all generations', so that what is counted survives a swap. The rest of a generation has a directory
of its own in it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ENGINE_SOCKET = "engine.sock"
CONTROL_SOCKET = "control.sock"
METRICS_DIRECTORY = "metrics"
PREFIX = "peregrine-"
MAX_SOCKET_PATH = 100
"""Bytes of a socket's path that every system takes."""

_LOCK = "lock"


@contextmanager
def run_directory() -> Iterator[Path]:
    """Make a directory that only this user can enter, and remove it at the end.

    What servers left behind that were killed goes too: a directory is somebody's while its lock is held.
    """
    path, lock = _make()
    try:
        _sweep(path.parent)
        (path / METRICS_DIRECTORY).mkdir()
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _make() -> tuple[Path, int]:
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    if len(bytes(path / "generation-1000000" / ENGINE_SOCKET)) > MAX_SOCKET_PATH:
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    # NOTE: it gets its name when it is locked, so that nobody can take it for one that was left behind.
    lock = os.open(path / f".{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (path / f".{_LOCK}").rename(path / _LOCK)
    return path, lock


def _sweep(folder: Path) -> None:
    """Remove this user's directories in ``folder`` whose servers have died."""
    for lock in folder.glob(f"{PREFIX}*/{_LOCK}"):
        with suppress(OSError):
            handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if os.fstat(handle).st_uid == lock.parent.lstat().st_uid == os.getuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent)
            finally:
                os.close(handle)
