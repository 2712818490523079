"""Names of split GGUF files, as ``llama-gguf-split`` gives them. Standard library only."""

from __future__ import annotations

import re
from pathlib import Path

from build_engine.errors import CheckpointError

_PART = re.compile(r"(?P<name>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")
_SHOWN = 4


def part_paths(path: Path) -> list[Path]:
    """The parts of the model that ``path`` is a part of, in order; ``path`` alone where its name is not a part's.

    Raises:
        CheckpointError: Parts are missing.
    """
    match = _PART.fullmatch(path.name)
    count = int(match["count"]) if match else 1
    if match is None or count == 1:
        return [path]
    if not 1 <= int(match["number"]) <= count:
        raise CheckpointError(f"{path}: by its name it is part {int(match['number'])} of {count}")
    width = len(match["count"])
    paths = [
        path.with_name(f"{match['name']}-{index:0{width}}-of-{match['count']}.gguf") for index in range(1, count + 1)
    ]
    missing = [part.name for part in paths if not part.is_file()]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise CheckpointError(
            f"{path}: {len(missing)} of {count} parts missing beside it: {', '.join(map(repr, missing[:_SHOWN]))}{more}"
        )
    return paths


def model_name(path: Path) -> str:
    """The file's name without its suffix, and without the number of a part."""
    match = _PART.fullmatch(path.name)
    return match["name"] if match and int(match["count"]) > 1 else path.stem
