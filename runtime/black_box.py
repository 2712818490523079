"""What an engine leaves behind however it ends: a sign of life for its parent, and who was in its last step.

A small file that both map into memory, so that writing it takes no system call and outlives a SIGKILL. The engine's
successor opens the same file and reads who was in the step that its predecessor did not survive; who was there twice
running, at the same place of its output, is the likely killer. A request that merely runs while engines die is further
on each time, or has not begun.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from runtime.quarantine import FINGERPRINT_BYTES

_PULSE = struct.Struct("<Qd")
_SECTION = struct.Struct("<dI")
_ENTRY_BYTES = FINGERPRINT_BYTES + 4
_MOST_ENTRIES = 1000
_SECTION_BYTES = _SECTION.size + _MOST_ENTRIES * _ENTRY_BYTES
_STEP_AT = 64
_LAST_AT = _STEP_AT + _SECTION_BYTES
_BYTES = _LAST_AT + _SECTION_BYTES

RELATED_SECONDS = 600.0
"""Two ends that are further apart have nothing to do with each other."""

Entry = tuple[bytes, int]
"""A request's fingerprint, and how many tokens of its output it had."""


class Pulse(NamedTuple):
    """A sign of life.

    Attributes:
        beats: Changes with each.
        patience: Seconds until the next one is overdue; infinite where nobody is to wait for it.
    """

    beats: int
    patience: float


def box_path(socket_path: str) -> Path:
    """Where the black box of the engine at ``socket_path`` is."""
    return Path(f"{socket_path}.box")


class BlackBox:
    """The engine's side.

    Args:
        path: The file, made if there is none; ``None`` keeps it in memory, for nobody to read.

    Attributes:
        killers: Fingerprints of what was in the last step of both engines before this one.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._memory: mmap.mmap | bytearray = bytearray(_BYTES) if path is None else _map(path)
        now = time.monotonic()
        died, step = self._read(_STEP_AT)
        before, last = self._read(_LAST_AT)
        self.killers = {found for found, _ in step & last} if died - before < RELATED_SECONDS else set()
        self._write(_LAST_AT, died, step)
        self._write(_STEP_AT, now, ())
        self._beats = 0

    def beat(self, patience: float) -> None:
        """Show that the engine is alive, and until when the next sign is to come."""
        self._beats += 1
        _PULSE.pack_into(self._memory, 0, self._beats, patience)

    def enter(self, entries: Iterable[Entry]) -> None:
        """A step begins."""
        self._write(_STEP_AT, time.monotonic(), entries)

    def leave(self) -> None:
        """The engine has survived its steps."""
        _SECTION.pack_into(self._memory, _STEP_AT, 0.0, 0)

    def _read(self, place: int) -> tuple[float, set[Entry]]:
        when, count = _SECTION.unpack_from(self._memory, place)
        begin = place + _SECTION.size
        entries = set()
        for at in range(begin, begin + min(count, _MOST_ENTRIES) * _ENTRY_BYTES, _ENTRY_BYTES):
            entry = bytes(self._memory[at : at + _ENTRY_BYTES])
            entries.add((entry[:FINGERPRINT_BYTES], int.from_bytes(entry[FINGERPRINT_BYTES:], "little")))
        return when, entries

    def _write(self, place: int, when: float, entries: Iterable[Entry]) -> None:
        packed = b"".join([found + generated.to_bytes(4, "little") for found, generated in entries])
        packed = packed[: _MOST_ENTRIES * _ENTRY_BYTES]
        begin = place + _SECTION.size
        # NOTE: the count comes last: whoever dies between the two leaves no entry that is half written.
        _SECTION.pack_into(self._memory, place, when, 0)
        self._memory[begin : begin + len(packed)] = packed
        _SECTION.pack_into(self._memory, place, when, len(packed) // _ENTRY_BYTES)


class PulseReader:
    """The parent's side.

    Args:
        path: Of the black box.

    Raises:
        OSError: There is none.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read(self) -> Pulse:
        """The last sign of life."""
        return Pulse(*_PULSE.unpack_from(self._memory, 0))


def _map(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, _BYTES)
        return mmap.mmap(descriptor, _BYTES)
    finally:
        os.close(descriptor)
