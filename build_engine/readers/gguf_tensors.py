"""GGUF tensors as ``CheckpointTensor``: read on demand, rows in Hugging Face's order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import QuantBlocks
from build_engine.errors import CheckpointError
from build_engine.readers.gguf_encodings import decode_blocks, decode_float, dequantize
from build_engine.readers.gguf_file import GgufFile, TensorInfo


@dataclass(slots=True)
class GgufTensor:
    """One tensor of a GGUF file.

    Attributes:
        name: Hugging Face's name.
        info: Where the file has it.
        row_order: Stored row of each row, or ``None`` where the order is the same.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    file: GgufFile
    info: TensorInfo
    row_order: npt.NDArray[np.int64] | None = None

    def float32(self) -> npt.NDArray[np.float32]:
        """The values, dequantised where need be.

        Raises:
            CheckpointError: A value is not finite.
        """
        values = dequantize(self.blocks()) if self.info.encoding.is_block else self._floats()
        return self._finite(values.reshape(self.shape), "value")

    def blocks(self) -> QuantBlocks:
        """The quantised blocks as stored.

        Raises:
            CheckpointError: The tensor is stored as floats, or a scale is not finite.
        """
        if not self.info.encoding.is_block:
            raise CheckpointError(f"{self._where} is stored as {self.encoding.upper()} and has no quantised blocks")
        raw = self._stored()
        blocks = decode_blocks(cast("npt.NDArray[np.void]", raw.reshape(-1, raw.shape[-1])), self.encoding)
        self._finite(blocks.scales, "scale")
        if blocks.offsets is not None:
            self._finite(blocks.offsets, "offset")
        return blocks

    @property
    def _where(self) -> str:
        return f"{self.file.path}: tensor {self.info.name!r}"

    def _floats(self) -> npt.NDArray[np.float32]:
        return decode_float(self._stored(), self.encoding)

    def _stored(self) -> npt.NDArray[Any]:
        """The file's items, shape ``[..., columns / elements]``, in row order."""
        encoding = self.info.encoding
        count = self.info.size // encoding.dtype.itemsize
        items = np.frombuffer(self.file.data, encoding.dtype, count, self.info.offset)
        rows = items.reshape(*self.shape[:-1], self.shape[-1] // encoding.elements)
        return rows if self.row_order is None else rows[self.row_order]

    def _finite(self, values: npt.NDArray[np.float32], what: str) -> npt.NDArray[np.float32]:
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self._where} holds a {what} that is not finite: the file is corrupt")
        return values


def half_split_rows(num_heads: int, head_dim: int) -> npt.NDArray[np.int64]:
    """For each Q or K row in Hugging Face's (half-split) rotary order, the row in GGUF's (interleaved) order.

    llama.cpp's converter stores dimension ``p * head_dim / 2 + j`` of a head as its row ``2 * j + p``.
    """
    rows = np.arange(num_heads * head_dim, dtype=np.int64).reshape(num_heads, head_dim // 2, 2)
    return rows.swapaxes(1, 2).reshape(-1)
