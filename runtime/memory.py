"""How much memory a process here may still take."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
_MEMINFO = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes that are free: the machine's, or less inside a control group with a limit; ``None`` if unknown."""
    known = [_machine_memory(), *(_group_memory(limit, usage) for limit, usage in _CGROUPS)]
    return min((size for size in known if size is not None), default=None)


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
