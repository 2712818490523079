"""Tensors of safetensors files as ``CheckpointTensor``, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from build_engine.checkpoint import QuantBlocks
from build_engine.errors import CheckpointError

_ENCODINGS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


@dataclass(slots=True)
class SafetensorsTensor:
    """One tensor of a safetensors file.

    Attributes:
        handle: The mapped file; it stays open as long as a tensor refers to it.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    path: Path
    handle: Any

    def float32(self) -> npt.NDArray[np.float32]:
        """The values.

        Raises:
            CheckpointError: The tensor is of a type that is not read, or holds a value that is not finite.
        """
        if self.encoding not in _ENCODINGS.values():
            raise CheckpointError(
                f"{self.path}: tensor {self.name!r} is stored as {self.encoding}; supported are {', '.join(_ENCODINGS)}"
            )
        # NOTE: bfloat16 needs ml_dtypes, which onnx brings along; its arrays convert as NumPy's own.
        values: npt.NDArray[np.float32] = self.handle.get_tensor(self.name).astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self.path}: tensor {self.name!r} holds a value that is not finite")
        return values

    def blocks(self) -> QuantBlocks:
        """Raises ``CheckpointError``: safetensors hold floats."""
        raise CheckpointError(f"{self.path}: tensor {self.name!r} is stored as floats and has no quantised blocks")


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
    return SafetensorsTensor(name, tuple(described.get_shape()), _ENCODINGS.get(dtype, dtype), path, handle)
