"""What this machine has left for a build."""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path

_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
_MEMINFO = Path("/proc/meminfo")


def free_memory() -> int | None:
    """Bytes that a new process could take: the machine's, or less inside a control group; ``None`` if unknown."""
    found = [
        value for value in (_machine_memory(), *(_group_memory(*files) for files in _CGROUPS)) if value is not None
    ]
    return min(found, default=None)


def free_disk(directory: Path) -> int:
    """Bytes free where ``directory`` is, or will be."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _machine_memory() -> int | None:
    try:
        lines = _MEMINFO.read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _group_memory(limit: Path, usage: Path) -> int | None:
    try:
        text = limit.read_text("ascii").strip()
        return None if text == "max" else max(0, int(text) - int(usage.read_text("ascii")))
    except (OSError, ValueError):
        return None
