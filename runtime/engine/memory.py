"""How much memory this process may still take."""

from __future__ import annotations

from pathlib import Path

_CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_memory() -> int:
    """Bytes that are free to this process: the machine's, or less inside a cgroup with a limit."""
    return min([_machine_available(), *_cgroup_available()])


def _machine_available() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    message = "/proc/meminfo has no MemAvailable"
    raise OSError(message)


def _cgroup_available() -> list[int]:
    free = []
    for limit_file, usage_file in _CGROUP_LIMITS:
        try:
            limit, usage = limit_file.read_text(encoding="ascii").strip(), usage_file.read_text(encoding="ascii")
        except OSError:
            continue
        if limit != "max":
            free.append(max(0, int(limit) - int(usage)))
    return free
