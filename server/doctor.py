"""``doctor``: what this machine can run, and why not the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from pathlib import Path

PACKAGES = (
    ("onnxruntime", "the CPU target"),
    ("onnxruntime-gpu", "the CUDA target"),
    ("cuda-python", "the GPU targets"),
    ("tensorrt", "the TensorRT target"),
    ("tensorrt-rtx", "the TensorRT-RTX target"),
    ("onnx", "building engines"),
    ("transformers", "building engines from Hugging Face directories"),
)

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
GIB = 2**30


def main() -> int:
    """Print the report; returns 0 whatever it says."""
    for title, section in (
        ("machine", _machine),
        ("packages", _packages),
        ("native operators", _native),
        ("cache", _cache),
        ("models", _models),
    ):
        sys.stdout.write(f"{title}\n")
        for line in _guarded(section):
            sys.stdout.write(f"  {line}\n")
    return 0


def _guarded(section: Callable[[], Iterator[str]]) -> Iterator[str]:
    """The lines of a section; a section that breaks says so instead of hiding the others."""
    try:
        yield from section()
    except Exception as error:
        yield f"cannot be examined: {error}"


def _machine() -> Iterator[str]:
    yield f"python {platform.python_version()} on {platform.system()} {platform.machine()}"
    allowed = len(os.sched_getaffinity(0))
    yield f"cores: {allowed} of {os.cpu_count()}{_cgroup_cores()}"
    flags = set(_field(Path("/proc/cpuinfo"), "flags").split())
    found = [name for name in INSTRUCTION_SETS if name in flags]
    yield f"instruction sets: {' '.join(found) or 'none beyond the baseline'}"
    available = int(_field(Path("/proc/meminfo"), "MemAvailable").split()[0]) * 1024
    yield f"memory: {available / GIB:.1f} GiB available{_cgroup_memory()}"
    device = shutil.which("nvidia-smi") or ("/dev/nvidia0" if Path("/dev/nvidia0").exists() else None)
    yield f"NVIDIA GPU: {device or 'none found, so only the CPU target can run here'}"


def _packages() -> Iterator[str]:
    for name, purpose in PACKAGES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"{name} is not installed: no {purpose.removeprefix('the ')}"


def _native() -> Iterator[str]:
    from runtime.native.library import active_isa, available_isas, library_path

    yield str(library_path())
    yield f"code paths that this processor can run: {' '.join(available_isas())}; in use: {active_isa()}"


def _cache() -> Iterator[str]:
    from runtime.bundle import bundles_root, cache_root

    root = cache_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    yield f"{root}: {shutil.disk_usage(existing).free / GIB:.1f} GiB free"
    if not os.access(existing, os.W_OK):
        yield f"{existing} cannot be written: set PEREGRINE_CACHE to a directory that can"
    yield f"bundles: {sum(1 for _ in bundles_root().glob('*/manifest.json'))}"


def _models() -> Iterator[str]:
    recipes = [item.name for item in resources.files("models").iterdir() if item.name.endswith(".toml")]
    yield from (f"recipe {name.removesuffix('.toml')}" for name in sorted(recipes))


def _field(path: Path, name: str) -> str:
    """Value of the first ``name: value`` line of a file in /proc; empty where there is none."""
    with path.open() as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def _cgroup_cores() -> str:
    quota, _, period = _cgroup("cpu.max").partition(" ")
    return f", limited to {int(quota) / int(period):.1f} by the container" if quota.isdecimal() else ""


def _cgroup_memory() -> str:
    limit = _cgroup("memory.max")
    return f", container limit {int(limit) / GIB:.1f} GiB" if limit.isdecimal() else ""


def _cgroup(name: str) -> str:
    path = Path("/sys/fs/cgroup") / name
    return path.read_text().strip() if path.is_file() else ""
