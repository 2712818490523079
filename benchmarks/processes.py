"""What the processes of a server take: CPU time and memory, by role, from ``/proc``."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
SUPERVISOR, ENGINE, ARBITER, WORKER = "supervisor", "engine", "HTTP arbiter", "HTTP worker"


def roles(supervisor: int) -> dict[int, str]:
    """The processes of a server by their ids; a process that ends meanwhile is left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        parent = parent_of(int(entry.name))
        if parent is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = {supervisor: SUPERVISOR}
    for child in children.get(supervisor, []):
        if b"runtime.engine" in _command(child):
            found[child] = ENGINE
        else:
            found[child] = ARBITER
            found |= dict.fromkeys(children.get(child, []), WORKER)
    return found


def parent_of(process: int) -> int | None:
    """Id of a process's parent; ``None`` once it has ended."""
    fields = _stat(process)
    return int(fields[1]) if fields else None


def cpu_seconds(process: int) -> float:
    """User and system time of all threads that a process has and had.

    The kernel counts it exactly and shows it in hundredths of a second: differences want to be some of them long.
    """
    fields = _stat(process)
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def cpu_by_role(processes: dict[int, str]) -> dict[str, float]:
    """CPU seconds so far of each role, those of equal roles added."""
    seconds: dict[str, float] = {}
    for process, role in processes.items():
        seconds[role] = seconds.get(role, 0.0) + cpu_seconds(process)
    return seconds


def memory_megabytes(process: int) -> dict[str, float]:
    """Memory of a process in MiB.

    Returns:
        ``rss`` (resident now), ``peak_rss`` (the most it ever was) and ``pss`` (pages shared with others counted in
        parts, so that processes add up); nothing once it has ended.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return {}
    found = {
        "rss": re.search(r"VmRSS:\s+(\d+) kB", status),
        "peak_rss": re.search(r"VmHWM:\s+(\d+) kB", status),
        "pss": re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE),
    }
    return {name: int(match[1]) / 1024 for name, match in found.items() if match}


def _stat(process: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` from the third, the state, on; none once it has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
