"""Makes a start cold: what it reads from files has to come from the disk again."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

_DROP = Path("/proc/sys/vm/drop_caches")
DROPPED = "cold: the machine's page cache was dropped"
EVICTED = "cold: the files of bundle and Python were evicted from the page cache, as far as nobody else maps them"


def make_cold(bundle: Path, *, whole_machine: bool) -> str:
    """Forget cached files; returns in words what was done.

    Args:
        bundle: Its files and those of the Python environment are evicted.
        whole_machine: Drop everything instead, where the system lets us; others on the machine will feel it.
    """
    os.sync()
    if whole_machine:
        try:
            _DROP.write_text("3\n")
        except OSError:
            pass
        else:
            return DROPPED
    _evict(_files([bundle, Path(sys.prefix), Path(sysconfig.get_path("stdlib")), Path(__file__).parents[1]]))
    return EVICTED


def _files(roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        yield from (path for path in root.rglob("*") if path.is_file())


def _evict(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
