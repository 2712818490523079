"""What the engine asks of a GPU: memory, one or more streams of work, kernels, graphs.

``runtime.cuda.cuda_device`` has the real one. Every method raises ``CudaError`` when the call fails; a failure of work
that was only enqueued shows at a later call, most often where the host waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Size = tuple[int, int, int]
"""Along x, y and z."""


class DeviceBuffer(Protocol):
    """Device memory; aligned to 256 bytes at least.

    Attributes:
        address: Of its first byte.
        nbytes: Its size.
    """

    address: int
    nbytes: int

    def close(self) -> None:
        """Free it; the work that uses it has to be over. A second call does nothing."""
        ...


class Event(Protocol):
    """A point in a stream's work."""

    def done(self) -> bool:
        """Whether the work before it is over."""
        ...

    def synchronize(self) -> None:
        """Wait on the host until it is."""
        ...


class Kernel(Protocol):
    """A kernel of a module, ready to be launched.

    Attributes:
        name: As it is written in the source.
    """

    name: str


class Module(Protocol):
    """Compiled kernels on the device."""

    def kernel(self, name: str) -> Kernel:
        """The ``extern "C"`` kernel called ``name``."""
        ...

    def close(self) -> None:
        """Unload it."""
        ...


class Graph(Protocol):
    """Captured work that can be launched again, at the addresses that it was captured with."""

    def close(self) -> None:
        """Free it; no launch of it may be on its way."""
        ...


class Stream(Protocol):
    """Work that the device does in order, while the host goes on.

    Attributes:
        handle: The driver's handle, for other libraries that enqueue work.
    """

    handle: int

    def upload(self, address: int, array: Array) -> None:
        """Copy a C-contiguous host array to the device.

        NOTE: a page-locked array (``Device.pinned``) is read when the copy's turn comes, not now: it has to stay as it
        is until then.
        """
        ...

    def download(self, array: Array, address: int) -> None:
        """Copy to a C-contiguous host array; a page-locked one is filled when the copy's turn comes, others now."""
        ...

    def copy(self, target: int, source: int, nbytes: int, *, rows: int = 1, pitch: int = 0) -> None:
        """Copy within the device: ``rows`` pieces of ``nbytes``, each ``pitch`` bytes after the one before."""
        ...

    def fill(self, address: int, byte: int, nbytes: int, *, rows: int = 1, pitch: int = 0) -> None:
        """Set bytes: ``rows`` pieces of ``nbytes``, each ``pitch`` bytes after the one before."""
        ...

    def launch(self, kernel: Kernel, grid: Size, block: Size, shared_bytes: int, args: Sequence[Any]) -> None:
        """Launch a kernel.

        Args:
            kernel: Of a module of this device.
            grid: Blocks.
            block: Threads of a block.
            shared_bytes: Dynamic shared memory of a block.
            args: NumPy scalars or ctypes values of the parameters' exact types; ``np.uint64`` for pointers.
        """
        ...

    def record(self) -> Event:
        """An event after everything that has been enqueued so far."""
        ...

    def wait(self, event: Event) -> None:
        """Let the work that is enqueued from now on wait for another stream's event."""
        ...

    def synchronize(self) -> None:
        """Wait on the host until everything that has been enqueued is done."""
        ...

    def begin_capture(self) -> None:
        """From here on work is captured, not done; nothing may wait for this stream until ``end_capture``."""
        ...

    def end_capture(self) -> Graph:
        """The work that was captured."""
        ...

    def launch_graph(self, graph: Graph) -> None:
        """Enqueue captured work."""
        ...

    def close(self) -> None:
        """Give it back; its work has to be over."""
        ...


class Device(Protocol):
    """One GPU.

    Attributes:
        name: The product's.
        compute_capability: Major and minor, such as (9, 0).
    """

    name: str
    compute_capability: tuple[int, int]

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and in all."""
        ...

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Device memory, not cleared."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Page-locked host memory, not cleared; it is the device's until that is closed."""
        ...

    def stream(self) -> Stream:
        """A stream of its own, which does not wait for the default stream."""
        ...

    def load(self, cubin: bytes) -> Module:
        """Load compiled kernels."""
        ...

    def close(self) -> None:
        """Give everything back that is still open."""
        ...


def pointer(address: int) -> np.uint64:
    """An address as a kernel's argument."""
    return np.uint64(address)
