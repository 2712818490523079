"""Compiles the op library with the system's C++ compiler or, where there is none, with PyPI's ``ziglang``.

Imports the standard library alone, so that ``setup.py`` can load it before anything is installed.
``python -m runtime.native.build`` rebuilds the library in place.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).with_name("src")
LIBRARY = Path(__file__).with_name("libperegrine_ops.so")

# NOTE: no -ffast-math and no contraction: results have to be the same from build to build and row to row.
_COMMON_FLAGS = (
    "-std=c++17",
    "-O3",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
)
_AVX2_FLAGS = ("-mavx2", "-mfma", "-mf16c")
# GCC 12 warns of its own AVX-512 header (bug 105593).
_AVX512_FLAGS = (*_AVX2_FLAGS, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-Wno-uninitialized")
_KERNELS = "kernels.cc"
_LINEAR_KERNELS = "linear_kernels.cc"
# Zig would take the build machine for the target: an old glibc and a baseline processor run everywhere.
_ZIG_FLAGS = ("-fno-sanitize=all", "-mcpu=baseline")
_GLIBC = "2.28"


class BuildError(Exception):
    """The library cannot be compiled; the message says why."""


def has_compiler() -> bool:
    """Whether ``$CXX`` or the PATH gives a C++ compiler."""
    return _system_compiler() is not None


def build_library(output: Path, jobs: int = 2, sanitizers: str = "") -> Path:
    """Compiles every source and links ``output``, which is replaced only by a complete library.

    Args:
        output: Path of the shared library.
        jobs: Compilers that run at once.
        sanitizers: What the compiler is to instrument the library for, ``address,undefined`` or ``thread``: for tests.

    Raises:
        BuildError: There is no compiler, or it failed; the message has its output.
    """
    compiler, link_flags = _compiler()
    checks = (f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-O1", "-g1") if sanitizers else ()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="peregrine-ops-") as folder:
        units = [(source, Path(folder, f"{source.stem}{i}.o"), flags) for i, (source, flags) in enumerate(_units())]
        commands = [
            [*compiler, *_COMMON_FLAGS, *flags, *checks, "-c", str(source), "-o", str(target)]
            for source, target, flags in units
        ]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(_run, commands))
        linked = Path(folder, output.name)
        linking = [*link_flags, *(checks or ("-s",))]
        _run([*compiler, "-shared", *linking, *(str(target) for _, target, _ in units), "-o", str(linked)])
        # Copied beside the old one and renamed: a process that has the old library mapped keeps it.
        staged = output.with_name(f".{output.name}.{os.getpid()}")
        shutil.copyfile(linked, staged)
        staged.chmod(0o755)
        staged.replace(output)
    return output


def _units() -> list[tuple[Path, tuple[str, ...]]]:
    """Translation units with their own flags; the kernels once per instruction set."""
    units: list[tuple[Path, tuple[str, ...]]] = []
    kernels, linear = SOURCES / _KERNELS, SOURCES / _LINEAR_KERNELS
    if platform.machine().lower() in {"x86_64", "amd64"}:
        avx512, avx2 = (*_AVX512_FLAGS, "-DPEREGRINE_AVX512"), (*_AVX2_FLAGS, "-DPEREGRINE_AVX2")
        units += [(kernels, (*avx512, "-mavx512bf16", "-DPEREGRINE_BFLOAT_DOT")), (kernels, avx512), (kernels, avx2)]
        units += [
            (linear, (*avx512, "-mavx512vnni")),
            (linear, (*avx2, "-mavxvnni", "-DPEREGRINE_VNNI")),
            (linear, avx2),
        ]
    units += [(kernels, ()), (linear, ())]
    units += [(source, ()) for source in sorted(SOURCES.glob("*.cc")) if source not in (kernels, linear)]
    return units


def _system_compiler() -> list[str] | None:
    given = os.environ.get("CXX")
    if given:
        return shlex.split(given)
    found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    return [found] if found else None


def _compiler() -> tuple[list[str], tuple[str, ...]]:
    """The compiler's command and its flags for linking."""
    system = _system_compiler()
    if system is not None:
        static = () if sys.platform == "darwin" else ("-static-libstdc++", "-static-libgcc", "-Wl,--no-undefined")
        return system, static
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError(
            "no C++ compiler: set CXX, install g++ or clang++, or install the compiler on PyPI with "
            f"'{sys.executable} -m pip install ziglang'"
        )
    target = f"{platform.machine()}-linux-gnu.{_GLIBC}" if sys.platform == "linux" else None
    flags = ["-target", target] if target else []
    return [sys.executable, "-m", "ziglang", "c++", *flags, *_ZIG_FLAGS], ("-nostdlib++",)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise BuildError(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise BuildError(f"{shlex.join(command)} failed:\n{done.stderr or done.stdout}")
    if done.stderr:
        sys.stderr.write(done.stderr)


def main() -> int:
    """Rebuilds the library in place."""
    try:
        sys.stdout.write(f"{build_library(LIBRARY)}\n")
    except BuildError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
