"""What processes take: CPU time and memory, by their place below a supervisor, from ``/proc``."""

from __future__ import annotations

import re
import time
from pathlib import Path

SUPERVISOR, ENGINE, ARBITER, WORKER = "supervisor", "engine", "HTTP arbiter", "HTTP worker"


def roles(supervisor: int) -> dict[int, str]:
    """The processes of a server by their ids; a process that ends meanwhile is left out."""
    children = _children()
    found = {supervisor: SUPERVISOR}
    for child in children.get(supervisor, []):
        if b"runtime.engine" in _command(child):
            found[child] = ENGINE
        else:
            found[child] = ARBITER
            found |= dict.fromkeys(children.get(child, []), WORKER)
    return found


def process_tree(root: int) -> list[int]:
    """``root`` and all that descend from it."""
    children = _children()
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def parent_of(process: int) -> int | None:
    """Id of a process's parent; ``None`` once it has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def cpu_seconds(process: int) -> float:
    """Seconds that all threads of a process have spent on cores so far, to the nanosecond; 0 once it has ended.

    NOTE: this is how Linux numbers the CPU clock of another process (``clock_getcpuclockid``); Python has no name for
    it.
    """
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:
        return 0.0


def cpu_by_role(processes: dict[int, str]) -> dict[str, float]:
    """CPU seconds so far of each role, those of equal roles added."""
    seconds: dict[str, float] = {}
    for process, role in processes.items():
        seconds[role] = seconds.get(role, 0.0) + cpu_seconds(process)
    return seconds


def resident_megabytes(process: int, field: str = "VmRSS") -> float:
    """Resident memory of a process in MiB now, or at its peak (``VmHWM``); 0 once it has ended."""
    return _megabytes(f"/proc/{process}/status", field)


def memory_megabytes(process: int) -> dict[str, float]:
    """Memory of a process in MiB.

    Returns:
        ``rss`` (resident now), ``peak_rss`` (the most it ever was) and ``pss`` (pages shared with others counted in
        parts, so that processes add up); nothing once it has ended.
    """
    found = {
        "rss": resident_megabytes(process),
        "peak_rss": resident_megabytes(process, "VmHWM"),
        "pss": _megabytes(f"/proc/{process}/smaps_rollup", "Pss"),
    }
    return found if all(found.values()) else {}


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        parent = parent_of(int(entry.name))
        if parent is not None:
            children.setdefault(parent, []).append(int(entry.name))
    return children


def _megabytes(path: str, field: str) -> float:
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
