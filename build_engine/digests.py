"""SHA-256 of files, remembered by path, size, modification time and inode, so that it is computed once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from build_engine.errors import CheckpointError
from runtime.bundle.cache import cache_root

_CHUNK = 1 << 20


def file_digest(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """SHA-256 of the file at ``path``, in hexadecimal.

    Args:
        path: A regular file.
        on_bytes: Called with the number of bytes hashed since the last call; not called when the digest is remembered.

    Raises:
        CheckpointError: The file cannot be read.
    """
    try:
        stat = path.stat()
        resolved = str(path.resolve())
        stamp: list[str | int] = [resolved, stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = _entry(resolved)
        known = _remembered(entry, stamp)
        if known is not None:
            return known
        digest = _hash(path, on_bytes)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    _remember(entry, stamp, digest)
    return digest


def tree_digest(directory: Path, names: Sequence[str], on_bytes: Callable[[int], None] | None = None) -> str:
    """SHA-256 over the names and digests of the files ``names`` of ``directory``."""
    total = hashlib.sha256()
    for name in sorted(names):
        total.update(f"{name}\0{file_digest(directory / name, on_bytes)}\n".encode())
    return total.hexdigest()


def joined_digest(*digests: str) -> str:
    """SHA-256 over several digests in order."""
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def _hash(path: Path, on_bytes: Callable[[int], None] | None) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if on_bytes is not None:
                on_bytes(len(chunk))
    return digest.hexdigest()


def _entry(resolved: str) -> Path:
    return cache_root() / "digests" / f"{hashlib.sha256(resolved.encode()).hexdigest()[:32]}.json"


def _remembered(entry: Path, stamp: list[str | int]) -> str | None:
    try:
        record = json.loads(entry.read_text())
    except (OSError, ValueError):
        return None
    if isinstance(record, dict) and record.get("stamp") == stamp and isinstance(record.get("sha256"), str):
        return str(record["sha256"])
    return None


def _remember(entry: Path, stamp: list[str | int], digest: str) -> None:
    # NOTE: a cache that cannot be written (read-only, full) costs time and nothing else.
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=entry.parent)
        with os.fdopen(handle, "w") as file:
            json.dump({"stamp": stamp, "sha256": digest}, file)
        Path(temporary).replace(entry)
