"""Calls of the op library through the driver, a process of its own."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.native.build import _compiler

Array = npt.NDArray[Any]

_FOLDER = Path(__file__).parent
_HEADERS = _FOLDER.parents[1] / "runtime" / "native" / "src"


class DriverError(Exception):
    """The library refused a call, crashed, or a sanitizer stopped it."""


@dataclass
class Call:
    """One call of an op or of an exported function.

    Attributes:
        name: The op's or function's.
        inputs: Of an op, in order; ``None`` where an optional one is absent. What a function works on, by place.
        outputs: Of an op: shape of each, float32; or the place of the input whose memory it is.
        attributes: Of an op.
        kernel: Which of the ops of this name, in the order of their registration; ``None``: a function.
        patches: Of a function: (input, offset in bytes, input whose address belongs there).
        arguments: Of a function: an integer, or the place of an input as a string.
    """

    name: str
    inputs: Sequence[Array | None]
    outputs: Sequence[tuple[int, ...] | int] = ()
    attributes: Mapping[str, int | float] = field(default_factory=dict)
    kernel: int | None = 0
    patches: Sequence[tuple[int, int, int]] = ()
    arguments: Sequence[int | str] = ()

    def packed(self, isa: str, linear_isa: str, threads: int, callers: int) -> bytes:
        """In the driver's format."""
        buffers = [given.tobytes() for given in self.inputs if given is not None]
        places = iter(range(len(buffers)))
        ports = [(-1, ()) if given is None else (next(places), given.shape) for given in self.inputs]
        outputs = []
        for output in self.outputs:
            if isinstance(output, int):
                outputs.append(ports[output])
                continue
            outputs.append((len(buffers), output))
            buffers.append(np.full(output, np.nan, np.float32).tobytes())
        integers = {name: value for name, value in self.attributes.items() if isinstance(value, int)}
        floats = {name: value for name, value in self.attributes.items() if isinstance(value, float)}
        arguments = [(1, int(each)) if isinstance(each, str) else (0, each) for each in self.arguments]
        return b"".join(
            [
                b"+",
                *(_bytes(text.encode()) for text in (self.name, isa, linear_isa)),
                _integers(-1 if self.kernel is None else self.kernel, threads, callers),
                _list(map(_bytes, buffers)),
                _list(_bytes(name.encode()) + _integers(value) for name, value in integers.items()),
                _list(_bytes(name.encode()) + struct.pack("<d", value) for name, value in floats.items()),
                *(_list(_integers(place) + _list(map(_integers, shape)) for place, shape in each)
                  for each in ((ports, outputs) if self.kernel is not None else ((), ()))),
                _list(_integers(*patch) for patch in self.patches),
                _list(_integers(*argument) for argument in arguments),
            ]
        )  # fmt: skip

    def results(self, buffers: Sequence[bytes]) -> list[Array]:
        """Of an op, its outputs; of a function, all inputs after it."""
        given = [array for array in self.inputs if array is not None]
        if self.kernel is None:
            return [np.frombuffer(found, array.dtype) for found, array in zip(buffers, given, strict=True)]
        fresh = iter(buffers[len(given) :])
        return [
            np.frombuffer(buffers[output], given[output].dtype).reshape(given[output].shape)
            if isinstance(output, int)
            else np.frombuffer(next(fresh), np.float32).reshape(output)
            for output in self.outputs
        ]


class Driver:
    """The driver's process.

    Args:
        program: What ``build_driver`` made.
        library: The op library.
        environment: Of the process.
        launcher: A command that starts the process, if it needs one.
    """

    def __init__(
        self,
        program: Path,
        library: Path,
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        self.library = library
        self._command = [*launcher, str(program), str(library)]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, call: Call, isa: str, linear_isa: str = "", threads: int = 1, callers: int = 2) -> list[Array]:
        """Make a call from several callers at once, whose results must be the same.

        Raises:
            DriverError: It was refused, or the process has ended; the message has what it wrote.
        """
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=None if self._environment is None else dict(self._environment),
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(call.packed(isa, linear_isa, threads, callers))
            self._process.stdin.flush()
            message, *buffers = [self._read_bytes() for _ in range(self._read_size())]
        except (BrokenPipeError, EOFError):
            raise DriverError(self.close()) from None
        if message:
            raise DriverError(message.decode())
        return call.results(buffers)

    def close(self) -> str:
        """End the process; what it wrote, and how it ended if not well."""
        if self._process is None:
            return ""
        process, self._process = self._process, None
        process.communicate(timeout=60)
        self._errors.seek(0)
        written = self._errors.read().decode(errors="replace")
        self._errors.close()
        return written if process.returncode == 0 else f"exit status {process.returncode}\n{written}"

    def _read_size(self) -> int:
        return int(struct.unpack("<Q", self._read(8))[0])

    def _read_bytes(self) -> bytes:
        return self._read(self._read_size())

    def _read(self, count: int) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        found = self._process.stdout.read(count)
        if len(found) < count:
            raise EOFError
        return found


def build_driver(output: Path, sanitizers: str = "") -> Path:
    """Compile the driver.

    Raises:
        BuildError: There is no compiler.
        subprocess.CalledProcessError: It failed.
    """
    checks = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"] if sanitizers else []
    flags = ["-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", *checks, f"-I{_HEADERS}"]
    source = str(_FOLDER / "driver.cc")
    subprocess.run([*_compiler()[0], *flags, source, "-ldl", "-pthread", "-rdynamic", "-o", str(output)], check=True)
    return output


def _bytes(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def _integers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def _list(items: Any) -> bytes:
    found = list(items)
    return _integers(len(found)) + b"".join(found)
