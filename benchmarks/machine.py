"""What figures were measured on; a figure without its machine is none."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("peregrine-llm", "onnxruntime", "numpy", "gunicorn", "falcon", "pyzmq")
_FEATURES = ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe() -> dict[str, Any]:
    """Processor, cores, versions, and how busy the machine was before."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    have = set(flags[1].split()) if flags else set()
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": name[1] if name else platform.machine(),
        "features": [feature for feature in _FEATURES if feature in have],
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "versions": {package: _version(package) for package in PACKAGES},
    }


def in_words(machine: dict[str, Any]) -> str:
    """A line for people; says so where the machine was not idle."""
    busy = machine["load_average"] > 0.5
    note = f"; NOT IDLE: load average {machine['load_average']:.1f}" if busy else ""
    features = " ".join(machine["features"])
    return f"{machine['processor']} ({features}), {machine['cores']} cores, Python {machine['python']}{note}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
