"""What a figure was read on, and what Linux knows of a process."""

from __future__ import annotations

import os
import platform
import re
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_PACKAGES = ("onnxruntime", "numpy")


def machine_class() -> str:
    """The machines whose ratios can be compared: processor family, instruction sets, number of cores.

    What the kernels are told to use is not part of it: it may be what makes them slow.
    """
    known = _cpu()
    names = [known[key] for key in ("vendor_id", "cpu family", "model") if key in known]
    flags = [flag for flag in _FLAGS if flag in known.get("flags", "").split()]
    processor = " ".join(["-".join(names) or platform.processor() or "unknown", *flags])
    return f"{platform.machine()} {processor}, {len(os.sched_getaffinity(0))} cores"


def cpu_model() -> str:
    """The processor's own name."""
    return _cpu().get("model name", platform.processor() or platform.machine())


def versions() -> dict[str, str]:
    """What the figures depend on beside our own code."""
    return {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}


def mapped_bytes(file: Path | None = None, access: str = "") -> int:
    """Bytes of address space of this process: those of ``file``, those with ``access`` (``rw``)."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if fields[1].startswith(access) and (file is None or fields[5:] == [str(file.resolve())]):
            begin, end = fields[0].split("-")
            total += int(end, 16) - int(begin, 16)
    return total


def parent_of(process: int) -> int:
    """The process that started ``process``."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def process_tree(root: int) -> list[int]:
    """``root`` and the processes below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(entry.name)] = parent_of(int(entry.name))
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def cpu_seconds(process: int) -> float:
    """Seconds that all threads of a process have spent on cores so far, to the nanosecond.

    NOTE: this is how Linux numbers the CPU clock of another process (``clock_getcpuclockid``); Python has no name for
    it.
    """
    return time.clock_gettime((~process << 3) | 2)


def _cpu() -> dict[str, str]:
    """The first processor of ``/proc/cpuinfo``, or nothing."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    return dict(re.findall(r"^(.*?)\s*: (.*)$", first, re.MULTILINE))
