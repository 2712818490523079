"""Runs CUDA C++ kernels on the CPU: blocks one after the other, a fiber for each thread, real barriers and shuffles.

What it shows: indexing, arithmetic, barriers (a missing one shows under some ``seed``), shared memory that is read
unwritten (it starts as NaNs) or written past its end, asynchronous copies that are not waited for, deadlocks. What it
cannot: memory ordering between blocks, since they run one after the other; registers; speed.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.native import build

HEADERS = Path(__file__).parent
MESSAGE_BYTES = 256
# NOTE: no contraction: a GPU fuses as it likes, so no test may rest on a kernel's last bit.
FLAGS = ("-std=c++17", "-Og", "-g0", "-fPIC", "-shared", "-fno-exceptions", "-ffp-contract=off", "-fno-strict-aliasing")
WARNINGS = ("-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-comment")
QUALIFIED = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
KERNEL = re.compile(rf"__global__\s+{QUALIFIED}void\s+{QUALIFIED}(\w+)\s*\(")
DYNAMIC_SHARED = re.compile(
    r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?([\w\s:]+?)\s*\b(\w+)\s*\[\s*\]\s*;"
)
CUDA_INCLUDE = re.compile(r"^\s*#\s*include\s*<(?:cuda\w*|mma|cooperative_groups)\.h>.*$", re.MULTILINE)


class KernelError(Exception):
    """A kernel does not compile, was launched with the wrong arguments, or failed while it ran."""


class _Launch(ctypes.Structure):
    _fields_ = (
        ("dims", ctypes.POINTER(ctypes.c_uint)),
        ("shared_bytes", ctypes.c_size_t),
        ("seed", ctypes.c_uint),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("sizes", ctypes.POINTER(ctypes.c_size_t)),
        ("count", ctypes.c_size_t),
        ("message", ctypes.c_char_p),
    )


class HostKernels:
    """The kernels of one source, compiled for the CPU.

    Args:
        source: CUDA C++ text, or the path of a ``.cu`` file (its folder is searched for its includes).
        defines: Macros.
        include: Folders that are searched for includes.

    Raises:
        KernelError: The source does not compile; the message has the compiler's output.
    """

    def __init__(
        self, source: str | Path, defines: Mapping[str, object] | None = None, include: Sequence[Path] = ()
    ) -> None:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        folders = [HEADERS, *include, *([source.parent] if isinstance(source, Path) else [])]
        macros = tuple(f"-D{name}={value}" for name, value in (defines or {}).items())
        self.names = tuple(dict.fromkeys(KERNEL.findall(text)))
        self._library = ctypes.CDLL(str(_compiled(_host_source(text, self.names), macros, tuple(folders))))

    def launch(
        self,
        name: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        shared_bytes: int,
        *args: np.ndarray | np.generic | None,
        seed: int = 0,
    ) -> None:
        """Runs a kernel to its end.

        Args:
            name: Of the kernel.
            grid: Blocks along x, y, z.
            block: Threads along x, y, z.
            shared_bytes: Dynamic shared memory of a block.
            *args: C-contiguous arrays for pointers (None is a null pointer), NumPy scalars for values.
            seed: Order in which threads and blocks run; 0 is ascending, odd ones run the blocks in descending order.

        Raises:
            KernelError: The arguments do not fit, threads deadlocked, or the block wrote past its shared memory.
        """
        if name not in self.names:
            raise KernelError(f"no kernel {name}; there are {', '.join(self.names)}")
        dims = (ctypes.c_uint * 6)(*_three(grid), *_three(block))
        values = [_argument(name, index, value) for index, value in enumerate(args)]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = (ctypes.c_size_t * len(values))(*(value.nbytes for value in values))
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        launch = _Launch(
            dims=dims,
            shared_bytes=shared_bytes,
            seed=seed,
            arguments=ctypes.cast(pointers, ctypes.POINTER(ctypes.c_void_p)),
            sizes=ctypes.cast(sizes, ctypes.POINTER(ctypes.c_size_t)),
            count=len(values),
            message=ctypes.cast(message, ctypes.c_char_p),
        )
        if self._library[f"cuda_host_launch_{name}"](ctypes.byref(launch)):
            raise KernelError(f"{name}: {message.value.decode()}")


def _argument(name: str, index: int, value: Any) -> np.ndarray:
    """The bytes of one argument, as an array of one element."""
    if value is None:
        return np.zeros(1, dtype=np.uint64)
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise KernelError(f"{name}: argument {index} is not contiguous")
        return np.array([value.ctypes.data], dtype=np.uint64)
    if isinstance(value, np.generic):
        return np.array([value])
    raise KernelError(f"{name}: argument {index} is a {type(value).__name__}, not a NumPy array or scalar")


def _three(sizes: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


def _host_source(text: str, names: tuple[str, ...]) -> str:
    text = CUDA_INCLUDE.sub("", text)
    text = DYNAMIC_SHARED.sub(r"\1* \2 = reinterpret_cast<\1*>(cuda_host::shared_memory);", text)
    entries = "".join(
        f'extern "C" int cuda_host_launch_{name}(const cuda_host::Launch* given) '
        f"{{ return cuda_host::launch({name}, *given); }}\n"
        for name in names
    )
    return f'#include "cuda_host.h"\n#line 1\n{text}\n{entries}'


@functools.cache
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="cuda-host-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _compiled(text: str, macros: tuple[str, ...], folders: tuple[Path, ...]) -> Path:
    compiler, _ = build._compiler()
    key = hashlib.sha256("\0".join([text, *macros]).encode()).hexdigest()[:16]
    source, output = Path(_folder(), f"{key}.cc"), Path(_folder(), f"{key}.so")
    source.write_text(text, encoding="utf-8")
    includes = [part for folder in folders for part in ("-I", str(folder))]
    command = [*compiler, *FLAGS, *WARNINGS, *macros, *includes, str(source), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise KernelError(f"{shlex.join(command)} failed:\n{done.stderr}")
    return output
