"""Page-locked memory in which the host puts together what one upload brings to the device."""

from __future__ import annotations

from runtime.cuda.device import Array, Device, Event, Stream

ALIGNMENT = 256
"""Of every array: what TensorRT wants of addresses."""


def padded(nbytes: int) -> int:
    """``nbytes`` rounded up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Staging:
    """Arrays side by side, each at an aligned offset that depends on the sizes of those before it alone.

    Args:
        device: Whose memory it is.
        nbytes: Room there is, with every array's padding.
    """

    def __init__(self, device: Device, nbytes: int) -> None:
        self._memory = device.pinned((nbytes,), "uint8")
        self._used = 0
        self._uploaded: Event | None = None

    def begin(self) -> None:
        """Start anew; waits until what was put here before has been uploaded."""
        if self._uploaded is not None:
            self._uploaded.synchronize()
            self._uploaded = None
        self._used = 0

    def add(self, array: Array) -> int:
        """Put an array behind the others; returns its offset."""
        offset, end = self._used, self._used + array.nbytes
        if end > len(self._memory):
            message = f"{end} bytes of inputs do not fit the {len(self._memory)} that were set aside"
            raise ValueError(message)
        self._memory[offset:end].view(array.dtype)[:] = array.reshape(-1)
        self._used = padded(end)
        return offset

    def upload(self, stream: Stream, address: int) -> None:
        """Bring everything to ``address``."""
        stream.upload(address, self._memory[: min(self._used, len(self._memory))])
        self._uploaded = stream.record()
