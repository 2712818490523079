"""This process's address space, as Linux tells it."""

from __future__ import annotations

from pathlib import Path


def mapped_bytes(file: Path | None = None, access: str = "") -> int:
    """Bytes of address space of this process: those of ``file``, those with ``access`` (``rw``)."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if fields[1].startswith(access) and (file is None or fields[5:] == [str(file.resolve())]):
            begin, end = fields[0].split("-")
            total += int(end, 16) - int(begin, 16)
    return total
