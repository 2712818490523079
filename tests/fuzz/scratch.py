"""Files in memory for readers that want a path."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path


@cache
def folder() -> Path:
    """A directory that is gone when the process is; on a RAM disk where there is one."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def file(name: str, content: bytes) -> Path:
    """The file ``name`` with ``content``."""
    path = folder() / name
    path.write_bytes(content)
    return path
