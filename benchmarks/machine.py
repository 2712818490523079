"""What figures were measured on; a figure without its machine is none."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("peregrine-llm", "onnxruntime", "numpy", "gunicorn", "falcon", "pyzmq")
_FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe() -> dict[str, Any]:
    """Processor, cores, versions, and how busy the machine was before."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": cpu_model(),
        "features": _features(_cpu()),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "versions": versions(),
    }


def in_words(machine: dict[str, Any]) -> str:
    """A line for people; says so where the machine was not idle."""
    busy = machine["load_average"] > 0.5
    note = f"; NOT IDLE: load average {machine['load_average']:.1f}" if busy else ""
    features, python = " ".join(machine["features"]), machine["versions"]["python"]
    return f"{machine['processor']} ({features}), {machine['cores']} cores, Python {python}{note}"


def machine_class() -> str:
    """The machines whose ratios can be compared: processor family, instruction sets, number of cores.

    What the kernels are told to use is not part of it: it may be what makes them slow.
    """
    known = _cpu()
    names = [known[key] for key in ("vendor_id", "cpu family", "model") if key in known]
    processor = " ".join(["-".join(names) or platform.processor() or "unknown", *_features(known)])
    return f"{platform.machine()} {processor}, {len(os.sched_getaffinity(0))} cores"


def cpu_model() -> str:
    """The processor's own name."""
    return _cpu().get("model name", platform.processor() or platform.machine())


def versions() -> dict[str, str]:
    """What figures depend on beside the machine."""
    return {"python": platform.python_version()} | {package: _version(package) for package in _PACKAGES}


def _cpu() -> dict[str, str]:
    """The first processor of ``/proc/cpuinfo``, or nothing."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    return dict(re.findall(r"^(.*?)\s*: (.*)$", first, re.MULTILINE))


def _features(cpu: dict[str, str]) -> list[str]:
    have = set(cpu.get("flags", "").split())
    return [feature for feature in _FEATURES if feature in have]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
