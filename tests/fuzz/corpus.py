"""Inputs that are kept: a file of msgpack for each target, and one input a file for what was once a finding."""

from __future__ import annotations

from pathlib import Path

import msgspec

TARGETS = ("bodies", "constraints", "files", "gguf", "messages", "outputs", "templates", "wire")
FOLDER = Path(__file__).parent
MAX_BYTES = 40_000


def load(target: str) -> list[bytes]:
    """The target's inputs."""
    path = FOLDER / "corpus" / f"{target}.msgpack"
    kept: list[bytes] = msgspec.msgpack.decode(path.read_bytes(), type=list[bytes]) if path.is_file() else []
    return kept + [path.read_bytes() for path in sorted((FOLDER / "regressions" / target).glob("*"))]


def store(target: str, folder: Path) -> None:
    """Keep the smallest of the inputs in ``folder``, as many as fit."""
    inputs = sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda data: (len(data), data))
    kept, size = [], 0
    for data in inputs:
        size += len(data) + 3
        if size > MAX_BYTES:
            break
        kept.append(data)
    (FOLDER / "corpus" / f"{target}.msgpack").write_bytes(msgspec.msgpack.encode(kept))
