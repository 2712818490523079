"""Tensors of safetensors files as ``CheckpointTensor``, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from build_engine.checkpoint import QuantBlocks
from build_engine.errors import CheckpointError
from build_engine.families.layout import Run

ENCODINGS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
"""Types that are read: as in the file -> as in ``CheckpointTensor.encoding``."""


@dataclass(slots=True)
class SafetensorsTensor:
    """A tensor of a safetensors file, or some rows of one.

    Attributes:
        name: Canonical name.
        handle: The mapped file; it stays open as long as a tensor refers to it.
        stored: Name in the file.
        rows: Rows of the file's tensor that it is made of; empty for all.
        offset: Added to the values.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    path: Path
    handle: Any
    stored: str
    rows: tuple[Run, ...] = ()
    offset: float = 0.0

    def part(self, name: str, rows: tuple[Run, ...], offset: float) -> SafetensorsTensor:
        """The ``rows`` of it, all where that is empty, as ``name``; ``offset`` is added to the values."""
        count = sum(stop - start for start, stop in rows) if rows else self.shape[0]
        return replace(self, name=name, shape=(count, *self.shape[1:]), rows=rows, offset=offset)

    def float32(self) -> npt.NDArray[np.float32]:
        """The values.

        Raises:
            CheckpointError: The tensor is of a type that is not read, or holds a value that is not finite.
        """
        if self.encoding not in ENCODINGS.values():
            known = ", ".join(ENCODINGS)
            raise CheckpointError(
                f"{self.path}: tensor {self.stored!r} is stored as {self.encoding}; supported are {known}"
            )
        # NOTE: bfloat16 needs ml_dtypes, which onnx brings along; its arrays convert as NumPy's own.
        values: npt.NDArray[np.float32] = self._read().astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self.path}: tensor {self.stored!r} holds a value that is not finite")
        return values + np.float32(self.offset) if self.offset else values

    def blocks(self) -> QuantBlocks:
        """Raises ``CheckpointError``: safetensors hold floats."""
        raise CheckpointError(f"{self.path}: tensor {self.stored!r} is stored as floats and has no quantised blocks")

    def _read(self) -> npt.NDArray[Any]:
        if not self.rows:
            return cast("npt.NDArray[Any]", self.handle.get_tensor(self.stored))
        stored = self.handle.get_slice(self.stored)
        return np.concatenate([stored[start:stop] for start, stop in self.rows])


def read_safetensors(paths: Iterable[Path]) -> dict[str, SafetensorsTensor]:
    """Every tensor of the files ``paths``, by name.

    Raises:
        CheckpointError: A file is corrupt, or two hold a tensor of the same name.
    """
    tensors: dict[str, SafetensorsTensor] = {}
    for path in paths:
        try:
            handle: Any = safe_open(path, framework="numpy")
            found = [_describe(name, handle, path) for name in handle.keys()]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: is not a usable safetensors file: {error}") from None
        for tensor in found:
            if tensor.name in tensors:
                other = tensors[tensor.name].path.name
                raise CheckpointError(f"{path}: tensor {tensor.name!r} is in {other} too")
            tensors[tensor.name] = tensor
    return tensors


def _describe(name: str, handle: Any, path: Path) -> SafetensorsTensor:
    described = handle.get_slice(name)
    dtype = described.get_dtype()
    return SafetensorsTensor(name, tuple(described.get_shape()), ENCODINGS.get(dtype, dtype), path, handle, name)
