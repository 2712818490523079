"""The external-data file of an ONNX model, written tensor by tensor so that the runtime can memory-map it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import onnx

PAGE = 4096


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes of the weight file: page-aligned ``offset`` and ``length``."""

    offset: int
    length: int


class WeightFile:
    """Appends tensors to a file at page-aligned offsets and describes them to ONNX.

    Nothing is kept in memory, and several initializers may name one region (tied embeddings).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, array: npt.NDArray[Any]) -> Region:
        """Appends the array's bytes (row-major, little-endian) and returns where they lie."""
        if self._file is None:
            raise ValueError("the weight file is not open")
        self._file.write(b"\0" * (-self._file.tell() % PAGE))
        offset = self._file.tell()
        # NOTE: not tofile(): its error on a full disk does not say so.
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return Region(offset, array.nbytes)

    def tensor(self, name: str, region: Region, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> onnx.TensorProto:
        """An initializer whose data is ``region``, seen as ``dtype`` and ``shape``; 4-bit integers are two a byte."""
        wanted = _stored_bytes(int(np.prod(shape)), np.dtype(dtype))
        if wanted != region.length:
            raise ValueError(f"{name}: {shape} of {np.dtype(dtype)} is not {region.length} bytes")
        proto = onnx.TensorProto(
            name=name,
            dims=shape,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
            data_location=onnx.TensorProto.EXTERNAL,
        )
        entries = {"location": self._path.name, "offset": str(region.offset), "length": str(region.length)}
        for key, value in entries.items():
            proto.external_data.add(key=key, value=value)
        return proto


def _stored_bytes(count: int, dtype: np.dtype[Any]) -> int:
    return -(-count // 2) if dtype.name == "int4" else count * dtype.itemsize
