"""``doctor``: what this machine can run, and why not the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from pathlib import Path

from runtime.bundle.gpu import Gpu, find_gpu
from runtime.bundle.target import CUDA_CAPABILITY, RTX_CAPABILITIES, TARGETS, choose_target

PACKAGES = (
    ("onnxruntime", "the CPU target"),
    ("onnxruntime-gpu", "the CUDA target"),
    ("cuda-bindings", "the GPU targets"),
    ("nvidia-cuda-nvrtc", "kernels of the GPU targets"),
    ("tensorrt-cu13", "the TensorRT target"),
    ("tensorrt-rtx", "the TensorRT-RTX target"),
    ("onnx", "building engines"),
    ("transformers", "building engines from Hugging Face directories"),
)

NEEDED = {
    "cpu": ("onnxruntime",),
    "cuda": ("onnxruntime-gpu", "cuda-bindings", "nvidia-cuda-nvrtc"),
    "tensorrt": ("tensorrt-cu13", "cuda-bindings", "nvidia-cuda-nvrtc"),
    "tensorrt-rtx": ("tensorrt-rtx", "cuda-bindings", "nvidia-cuda-nvrtc"),
}
"""Target -> what has to be installed to run its engines; the extra of the target's name brings it."""

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
GIB = 2**30


def main() -> int:
    """Print the report; returns 0 whatever it says."""
    for title, section in (
        ("machine", _machine),
        ("packages", _packages),
        ("targets", _targets),
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
    gpu = find_gpu()
    yield f"GPU: {gpu}" if isinstance(gpu, str) else f"GPU: {gpu.name}, compute capability {gpu.compute_capability}"


def _packages() -> Iterator[str]:
    for name, purpose in PACKAGES:
        found = _version(name)
        yield f"{name} {found}" if found else f"{name} is not installed: no {purpose.removeprefix('the ')}"
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        yield "onnxruntime and onnxruntime-gpu overwrite each other's files: uninstall both, then install one"


def _targets() -> Iterator[str]:
    gpu = find_gpu()
    for target in TARGETS:
        lacking = list(_lacking(target, gpu))
        yield f"{target}: {'does not run here: ' + '; '.join(lacking) if lacking else 'runs here'}"
    chosen = choose_target()
    yield f"auto is {chosen.name}: {chosen.reason}"


def _lacking(target: str, gpu: Gpu | str) -> Iterator[str]:
    """What keeps an engine for ``target`` from running here."""
    if target != "cpu":
        if isinstance(gpu, str):
            yield gpu
        elif not _suits(target, gpu):
            yield f"{gpu.name} is of compute capability {gpu.compute_capability}, it needs {_capabilities(target)}"
    missing = [name for name in NEEDED[target] if not _version(name)]
    if target == "cpu" and missing and _version("onnxruntime-gpu"):
        missing = []  # it has the CPU provider too
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        yield f"{', '.join(missing)} {verb} not installed: pip install 'peregrine-llm[{target}]'"


def _suits(target: str, gpu: Gpu) -> bool:
    if target == "tensorrt-rtx":
        return gpu.compute_capability in RTX_CAPABILITIES
    return target != "cuda" or tuple(map(int, gpu.compute_capability.split("."))) >= CUDA_CAPABILITY


def _capabilities(target: str) -> str:
    return ", ".join(RTX_CAPABILITIES) if target == "tensorrt-rtx" else "{}.{} or later".format(*CUDA_CAPABILITY)


def _version(name: str) -> str | None:
    """Of an installed distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


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
