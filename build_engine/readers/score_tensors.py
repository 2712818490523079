"""Whether a reward checkpoint holds the score head that its class has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from build_engine.checkpoint import CheckpointTensor
from build_engine.errors import CheckpointError
from build_engine.families.layout import StoredTensor
from runtime.bundle.architecture import Architecture

_LAST = ("score.weight", "score.2.weight")


def check_score_head(
    architecture: Architecture, stored: Mapping[str, StoredTensor], found: Mapping[str, CheckpointTensor], path: Path
) -> None:
    """Check the score head's tensors; nothing where ``architecture`` has none.

    Args:
        architecture: From the checkpoint's configuration.
        stored: What the file has to hold.
        found: What it holds.
        path: For messages.

    Raises:
        CheckpointError: The head is missing, has several outputs, or another width than the model.
    """
    if architecture.score_head is None:
        return
    head = {name: tensor for name, tensor in stored.items() if tensor.parts[0].name.startswith("score.")}
    missing = [name for name in head if name not in found]
    if missing:
        raise CheckpointError(
            f"{path}: the score head is missing: there is no tensor {missing[0]!r}, which the class in config.json has"
        )
    for name, tensor in head.items():
        shape = tuple(found[name].shape)
        if tensor.parts[0].name in _LAST and len(shape) == 2 and shape[0] != 1:
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {list(shape)}: the model gives {shape[0]} scores; only models with "
                "one score are supported"
            )
        if shape != tensor.shape:
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {list(shape)}; a model {architecture.hidden_size} wide has "
                f"{list(tensor.shape)} there"
            )
