"""GGUF tensors as ``CheckpointTensor``: read on demand, rows in Hugging Face's order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import QuantBlocks
from build_engine.errors import CheckpointError
from build_engine.families.layout import Run
from build_engine.readers.gguf_encodings import decode_blocks, decode_float, dequantize
from build_engine.readers.gguf_file import GgufFile, TensorInfo


@dataclass(slots=True)
class GgufTensor:
    """A tensor of a GGUF file, or some rows of one.

    Attributes:
        name: Canonical name.
        info: Where the file has it.
        row_order: Stored row of each row, or ``None`` where all are in their places.
        offset: Added to the values of a float tensor.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    file: GgufFile
    info: TensorInfo
    row_order: slice | npt.NDArray[np.int64] | None = None
    offset: float = 0.0

    def part(self, name: str, rows: tuple[Run, ...], offset: float) -> GgufTensor:
        """The ``rows`` of it, all where that is empty, as ``name``; ``offset`` is added to the values.

        Blocks lie within rows, so that rows of a quantised tensor are taken as they are stored.
        """
        if not rows:
            return replace(self, name=name, offset=offset)
        count = sum(stop - start for start, stop in rows)
        order = slice(*rows[0]) if len(rows) == 1 else np.concatenate([np.arange(*run) for run in rows])
        return replace(self, name=name, shape=(count, *self.shape[1:]), row_order=order, offset=offset)

    def float32(self) -> npt.NDArray[np.float32]:
        """The values, dequantised where need be.

        Raises:
            CheckpointError: A value is not finite.
        """
        values = dequantize(self.blocks()) if self.info.encoding.is_block else self._floats()
        self._finite(values, "value")
        return (values + np.float32(self.offset) if self.offset else values).reshape(self.shape)

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
        count, shape = self.info.size // encoding.dtype.itemsize, self.info.shape
        items = np.frombuffer(self.file.data, encoding.dtype, count, self.info.offset)
        rows = items.reshape(*shape[:-1], shape[-1] // encoding.elements)
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
