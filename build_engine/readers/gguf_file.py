"""The structure of a GGUF file: metadata, and where each tensor lies. Nothing here knows about models."""

from __future__ import annotations

import math
import mmap
import reprlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.readers.gguf_cursor import Cursor
from build_engine.readers.gguf_encodings import ENCODINGS, UNSUPPORTED_NAMES, Encoding

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_ENTRIES = 1 << 16
MAX_NAME_BYTES = 1 << 8
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32
_MIN_METADATA_BYTES = 13
_MIN_TENSOR_BYTES = 32


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies.

    Attributes:
        shape: Rows first (GGUF stores the column count first).
        offset: Of the first byte, from the start of the file.
        size: In bytes.
    """

    name: str
    shape: tuple[int, ...]
    encoding: Encoding
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """An opened GGUF file; ``data`` maps the whole file and stays mapped as long as anything refers to it."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    data: mmap.mmap


def read_gguf(path: Path) -> GgufFile:
    """Map ``path`` and parse its header.

    Raises:
        CheckpointError: The file is missing, truncated, corrupt, or of a version or encoding that is not read.
    """
    data = _map(path)
    cursor = Cursor(data, path)
    _check_magic(data, cursor)
    tensor_count = _count(cursor, "tensors", _MIN_TENSOR_BYTES)
    metadata_count = _count(cursor, "metadata entries", _MIN_METADATA_BYTES)
    metadata = _metadata(cursor, metadata_count)
    alignment = _alignment(cursor, metadata)
    infos = [_tensor_info(cursor, index) for index in range(tensor_count)]
    start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for info in infos:
        if info.name in tensors:
            raise cursor.fail(f"tensor {info.name!r} appears twice")
        tensors[info.name] = _placed(info, start, alignment, len(data), cursor)
    _check_overlaps(tensors, cursor)
    return GgufFile(path=path, metadata=metadata, tensors=tensors, data=data)


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise CheckpointError(f"{path}: is empty; a GGUF file begins with the bytes {MAGIC!r}") from None


def _check_magic(data: mmap.mmap, cursor: Cursor) -> None:
    if data[:4] != MAGIC:
        raise cursor.fail(f"is not a GGUF file: it begins with {data[:4]!r}, not {MAGIC!r}")
    cursor.position = 4
    version = cursor.u32("the version")
    if version not in VERSIONS:
        big_endian = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        found = "a big-endian file" if big_endian else f"version {version}"
        raise cursor.fail(f"is {found}; versions 2 and 3, little-endian, are supported")


def _count(cursor: Cursor, what: str, smallest: int) -> int:
    count = cursor.u64(f"the number of {what}")
    if count > MAX_ENTRIES:
        raise cursor.fail(f"claims {count} {what}; at most {MAX_ENTRIES} are accepted")
    cursor.require(count * smallest, f"{count} {what}")
    return count


def _metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(count):
        key = cursor.string(f"the key of metadata entry {index}", MAX_NAME_BYTES)
        if key in metadata:
            raise cursor.fail(f"metadata key {key!r} appears twice")
        kind = cursor.u32(f"the type of metadata key {key!r}")
        metadata[key] = cursor.value(kind, f"metadata key {key!r}")
    return metadata


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    valid = type(alignment) is int and 8 <= alignment <= MAX_ENTRIES and alignment & (alignment - 1) == 0
    if not valid:
        raise cursor.fail(f"general.alignment is {reprlib.repr(alignment)}; it has to be a power of two of 8 or more")
    return int(alignment)


def _tensor_info(cursor: Cursor, index: int) -> TensorInfo:
    name = cursor.string(f"the name of tensor {index}", MAX_NAME_BYTES)
    rank = cursor.u32(f"the rank of tensor {name!r}")
    if not 1 <= rank <= MAX_DIMENSIONS:
        raise cursor.fail(f"tensor {name!r} has {rank} dimensions; 1 to {MAX_DIMENSIONS} are accepted")
    shape = tuple(cursor.u64(f"dimension {axis} of tensor {name!r}") for axis in range(rank))[::-1]
    if 0 in shape:
        raise cursor.fail(f"tensor {name!r} has the empty shape {list(shape)}")
    kind = cursor.u32(f"the encoding of tensor {name!r}")
    offset = cursor.u64(f"the offset of tensor {name!r}")
    encoding = ENCODINGS.get(kind)
    if encoding is None:
        supported = ", ".join(known.name.upper() for known in ENCODINGS.values())
        found = UNSUPPORTED_NAMES.get(kind, f"unknown type {kind}")
        raise cursor.fail(f"tensor {name!r} is stored as {found}; supported are {supported}")
    if encoding.is_block and rank == 1:
        raise cursor.fail(f"tensor {name!r} has one dimension and is stored as {encoding.name.upper()} blocks")
    if shape[-1] % encoding.elements:
        raise cursor.fail(
            f"tensor {name!r} has {shape[-1]} columns, which {encoding.name.upper()} blocks of "
            f"{encoding.elements} do not divide"
        )
    size = math.prod(shape) // encoding.elements * encoding.dtype.itemsize
    return TensorInfo(name, shape, encoding, offset, size)


def _placed(info: TensorInfo, start: int, alignment: int, file_size: int, cursor: Cursor) -> TensorInfo:
    """``info`` with its offset counted from the start of the file, checked to lie inside it."""
    if info.offset % alignment:
        raise cursor.fail(f"tensor {info.name!r} lies at offset {info.offset}, not a multiple of {alignment}")
    offset = start + info.offset
    if offset + info.size > file_size:
        raise cursor.fail(
            f"tensor {info.name!r} ends at byte {offset + info.size}, but the file has {file_size}: "
            "the file is truncated or corrupt"
        )
    return TensorInfo(info.name, info.shape, info.encoding, offset, info.size)


def _check_overlaps(tensors: dict[str, TensorInfo], cursor: Cursor) -> None:
    ordered = sorted(tensors.values(), key=lambda info: info.offset)
    for before, after in pairwise(ordered):
        if before.offset + before.size > after.offset:
            raise cursor.fail(f"tensors {before.name!r} and {after.name!r} overlap: the file is corrupt")
