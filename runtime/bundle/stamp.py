"""The stamp of a bundle: inode, modification time and size of each file, when its digests were last checked.

As long as the stamp fits, a start need not read gigabytes to know that nothing has changed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

import msgspec

STAMP_FILE = "stamp.json"

Stamp = dict[str, tuple[int, int, int]]
"""File name -> inode, modification time in ns, size in bytes."""


def take_stamp(directory: Path, names: Iterable[str]) -> Stamp:
    """The stamp of the files ``names`` as they are now.

    Raises:
        OSError: One of them is missing or is no regular file.
    """
    stamp: Stamp = {}
    for name in names:
        path = directory / name
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        stamp[name] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return stamp


def read_stamp(directory: Path) -> Stamp | None:
    """The stored stamp, or ``None`` where there is no usable one."""
    try:
        return msgspec.json.decode((directory / STAMP_FILE).read_bytes(), type=Stamp)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write_stamp(directory: Path, stamp: Stamp) -> None:
    """Store ``stamp``, replacing an older one at once.

    Raises:
        OSError: The directory cannot be written.
    """
    temporary = directory / f".{STAMP_FILE}.{os.getpid()}"
    try:
        temporary.write_bytes(msgspec.json.encode(stamp))
        temporary.replace(directory / STAMP_FILE)
    finally:
        with suppress(OSError):
            temporary.unlink()
