"""The private directory of one running server: sockets, configuration, metrics files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENGINE_SOCKET = "engine.sock"
MAX_SOCKET_PATH = 100
"""Bytes of a socket's path that every system takes."""


@contextmanager
def run_directory() -> Iterator[Path]:
    """Make a directory that only this user can enter, and remove it at the end."""
    path = Path(tempfile.mkdtemp(prefix="peregrine-"))
    if len(bytes(path / ENGINE_SOCKET)) > MAX_SOCKET_PATH:
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix="peregrine-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
