"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def facts() -> dict[str, Any]:
    """Processor, memory, kernel, and how busy the machine was before."""
    processors = Path("/proc/cpuinfo").read_text()
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    flags = set(_field(processors, "flags").split())
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _field(processors, "model name") or platform.processor(),
        "family_model": f"{_field(processors, 'cpu family')}/{_field(processors, 'model')}",
        "cores": os.cpu_count(),
        "instructions": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def say(message: str) -> None:
    """Progress, for people."""
    print(message, file=sys.stderr, flush=True)
