"""Locks between processes, by name, released by the kernel when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from build_engine.errors import BuildError
from build_engine.progress import Progress
from runtime.bundle.cache import cache_root


@contextmanager
def exclusive_lock(name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock ``name``, waiting for whoever has it.

    Raises:
        BuildError: The cache folder cannot be written.
    """
    handle = _open(name)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"another process is at work on {name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def lock_if_free(name: str) -> Iterator[bool]:
    """Hold the lock ``name`` if nobody has it; gives whether it is held."""
    handle = _open(name)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _open(name: str) -> int:
    # NOTE: lock files are never removed: another process may hold or wait on the inode that would go.
    path: Path = cache_root() / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BuildError(f"{path}: cannot be opened: {error.strerror}; PEREGRINE_CACHE chooses the folder") from None
