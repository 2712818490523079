"""Writes a trained head as safetensors, byte for byte the same for the same head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from build_engine.errors import BuildError
from build_engine.reward_head.train import TrainedHead

_ALIGNMENT = 8


def write_head(path: Path, head: TrainedHead, metadata: Mapping[str, str]) -> None:
    """Write ``score.weight`` ``[1, H]`` and ``score.bias`` ``[1]`` in float32, with ``metadata``.

    NOTE: not by the safetensors package, whose order of metadata differs from run to run, and with it the digest.

    Raises:
        BuildError: The file cannot be written.
    """
    weight, bias = (np.ascontiguousarray(values, "<f4").tobytes() for values in (head.weight, head.bias))
    header = {
        "__metadata__": dict(sorted(metadata.items())),
        "score.weight": _entry([1, len(head.weight)], 0, len(weight)),
        "score.bias": _entry([1], len(weight), len(weight) + len(bias)),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    try:
        path.write_bytes(len(text).to_bytes(8, "little") + text + weight + bias)
    except OSError as error:
        raise BuildError(f"{path}: cannot be written: {error.strerror}") from None


def _entry(shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
