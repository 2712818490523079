"""All parts of a GGUF model, checked to belong together.

The first part has the metadata, the others only their number (``split.no``, counted from 0).
"""

from __future__ import annotations

from pathlib import Path

from build_engine.errors import CheckpointError
from build_engine.readers.gguf_file import GgufFile, read_gguf
from build_engine.readers.gguf_split import part_paths


def read_parts(path: Path) -> list[GgufFile]:
    """Map the file at ``path`` and, where it is one part of a model, the others; the first one has the metadata.

    Raises:
        CheckpointError: A part is missing, unreadable, or of another model.
    """
    parts = [read_gguf(part) for part in part_paths(path)]
    for index, part in enumerate(parts):
        _check_number(part, index, len(parts))
    if len(parts) > 1:
        _check_tensors(parts)
    return parts


def _check_number(part: GgufFile, index: int, count: int) -> None:
    number, total = part.metadata.get("split.no", 0), part.metadata.get("split.count", 1)
    if (number, total) == (index, count):
        return
    if type(number) is not int or type(total) is not int:
        raise CheckpointError(f"{part.path}: split.no and split.count have to be integers")
    if count == 1:
        raise CheckpointError(
            f"{part.path}: is part {number + 1} of {total}, but not named so; give the parts the names they had "
            f"(...-{number + 1:05}-of-{total:05}.gguf), or merge them (llama-gguf-split --merge)"
        )
    raise CheckpointError(
        f"{part.path}: belongs to another model: by its name it is part {index + 1} of {count}, but it holds part "
        f"{number + 1} of {total}"
    )


def _check_tensors(parts: list[GgufFile]) -> None:
    claimed = parts[0].metadata.get("split.tensors.count")
    holders: dict[str, GgufFile] = {}
    for part in parts:
        if part.metadata.get("split.tensors.count") != claimed:
            raise CheckpointError(f"{part.path}: belongs to another model than {parts[0].path.name}")
        for name in part.tensors:
            if name in holders:
                raise CheckpointError(f"{part.path}: tensor {name!r} is in {holders[name].path.name} too")
            holders[name] = part
    if claimed is not None and claimed != len(holders):
        raise CheckpointError(
            f"{parts[0].path}: the model has {claimed} tensors, but its {len(parts)} parts hold {len(holders)}"
        )
