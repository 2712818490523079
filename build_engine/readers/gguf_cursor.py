"""A bounds-checked cursor over the header of a GGUF file.

Every count and length in the file is untrusted: each is checked against the bytes that are left before anything is
allocated. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from build_engine.errors import CheckpointError

MAX_STRING_BYTES = 1 << 26
MAX_ITEMS = 1 << 23

_SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Cursor:
    """Reads little-endian values from ``data``, raising ``CheckpointError`` where the file does not hold them."""

    def __init__(self, data: mmap.mmap | bytes, path: Path) -> None:
        self.position = 0
        self._items = 0
        self._data = data
        self._size = len(data)
        self._path = path

    def fail(self, message: str) -> CheckpointError:
        """The error for ``message``, naming the file."""
        return CheckpointError(f"{self._path}: {message}")

    def require(self, count: int, what: str) -> None:
        """Check that ``count`` more bytes exist for ``what``."""
        left = self._size - self.position
        if count > left:
            raise self.fail(
                f"{what} needs {count} bytes at offset {self.position}, but only {left} are left: "
                "the file is truncated or corrupt"
            )

    def u32(self, what: str) -> int:
        """An unsigned 32-bit integer."""
        return int(self._unpack(_U32, what))

    def u64(self, what: str) -> int:
        """An unsigned 64-bit integer."""
        return int(self._unpack(_U64, what))

    def string(self, what: str, limit: int = MAX_STRING_BYTES) -> str:
        """A length-prefixed UTF-8 string of at most ``limit`` bytes."""
        length = self.u64(f"the length of {what}")
        if length > limit:
            raise self.fail(f"{what} claims {length} bytes; at most {limit} are accepted")
        self.require(length, what)
        raw = self._data[self.position : self.position + length]
        self.position += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not valid UTF-8") from None

    def value(self, kind: int, what: str) -> Any:
        """A metadata value of GGUF type ``kind``; arrays become lists."""
        if kind == _STRING:
            return self.string(what)
        if kind == _ARRAY:
            return self._array(what)
        if kind == _BOOL:
            return self._bools(1, what)[0]
        if kind not in _SCALARS:
            raise self.fail(f"{what} has the unknown value type {kind}")
        return self._unpack(_SCALARS[kind], what)

    def _array(self, what: str) -> list[Any]:
        kind = self.u32(f"the element type of {what}")
        count = self.u64(f"the length of {what}")
        # NOTE: in memory an item is a Python object, many times its size in the file.
        self._items += count
        if self._items > MAX_ITEMS:
            raise self.fail(f"{what} claims {count} items; at most {MAX_ITEMS} are accepted over all arrays")
        if kind == _STRING:
            return self._strings(count, what)
        if kind == _BOOL:
            return self._bools(count, what)
        if kind not in _SCALARS:
            raise self.fail(f"{what} is an array of the unsupported value type {kind}")
        size = _SCALARS[kind].size
        self.require(count * size, what)
        values = struct.unpack_from(f"<{count}{_SCALARS[kind].format[-1]}", self._data, self.position)
        self.position += count * size
        return list(values)

    def _bools(self, count: int, what: str) -> list[bool]:
        self.require(count, what)
        raw = self._data[self.position : self.position + count]
        self.position += count
        if raw.strip(b"\x00\x01"):
            raise self.fail(f"{what} holds a boolean that is neither 0 nor 1")
        return [byte == 1 for byte in raw]

    def _strings(self, count: int, what: str) -> list[str]:
        # NOTE: vocabularies hold 100 000 strings and more, so this loop does by hand what `string` does.
        self.require(count * _U64.size, what)
        data, size, position, unpack = self._data, self._size, self.position, _U64.unpack_from
        strings: list[str] = []
        try:
            for _ in range(count):
                start = position + 8
                position = start + unpack(data, position)[0]
                if position > size:
                    break
                strings.append(data[start:position].decode("utf-8"))
        except struct.error:
            pass
        except UnicodeDecodeError:
            raise self.fail(f"string {len(strings)} of {what} is not valid UTF-8") from None
        if len(strings) != count:
            raise self.fail(
                f"{what} holds {count} strings, but the file ends in string {len(strings)}: "
                "the file is truncated or corrupt"
            )
        self.position = position
        return strings

    def _unpack(self, layout: struct.Struct, what: str) -> Any:
        self.require(layout.size, what)
        (value,) = layout.unpack_from(self._data, self.position)
        self.position += layout.size
        return value
