"""A graph's inputs and output as buffers that stay bound: binding anew costs more than filling them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnxruntime

Array = npt.NDArray[Any]


class BoundInput:
    """One input of varying shape, in a buffer that grows to the largest one seen.

    Args:
        binding: Binds it.
        name: The input's name.
        dtype: Its elements.
    """

    def __init__(self, binding: onnxruntime.IOBinding, name: str, dtype: npt.DTypeLike) -> None:
        self._binding = binding
        self._name = name
        self._buffer = np.empty(0, dtype=dtype)
        self._bound = self._buffer.reshape(0, 0, 0)  # no input has this shape

    def fill(self, values: Array) -> None:
        """Let the next run read ``values``, which are copied."""
        if values.shape != self._bound.shape:
            self._bind(values.shape)
        np.copyto(self._bound, values, casting="no")

    def _bind(self, shape: tuple[int, ...]) -> None:
        size = math.prod(shape)
        if size > len(self._buffer):
            self._buffer = np.empty(2 * size, dtype=self._buffer.dtype)
        self._bound = self._buffer[:size].reshape(shape)
        self._binding.bind_input(self._name, "cpu", 0, self._buffer.dtype, shape, self._buffer.ctypes.data)


class BoundOutput:
    """The leading rows of a buffer as an output.

    Args:
        binding: Binds it.
        name: The output's name.
        buffer: Of as many rows as it may have; the caller's.
    """

    def __init__(self, binding: onnxruntime.IOBinding, name: str, buffer: Array) -> None:
        self._binding = binding
        self._name = name
        self._buffer = buffer
        self._bound: Array | None = None

    def rows(self, count: int) -> Array:
        """Where the next run writes ``count`` rows."""
        if self._bound is None or len(self._bound) != count:
            self._bound = self._buffer[:count]
            self._binding.bind_output(
                self._name, "cpu", 0, self._bound.dtype, self._bound.shape, self._buffer.ctypes.data
            )
        return self._bound
