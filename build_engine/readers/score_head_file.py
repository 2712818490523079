"""Score heads in files of their own, trained on a frozen backbone: what makes a reward model of a generation model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from build_engine.checkpoint import Checkpoint
from build_engine.errors import CheckpointError
from build_engine.families.names import expected_tensors
from build_engine.readers.safetensors_file import SafetensorsTensor, read_safetensors
from runtime.bundle.architecture import ScoreHead

BACKBONE_DIGEST = "backbone_sha256"
"""Key of the file's metadata: digest of the checkpoint that the head was trained on."""

_HIDDEN, _SINGLE = "score.0.weight", "score.weight"


def attach_score_head(backbone: Checkpoint, path: Path, digest: str = "") -> Checkpoint:
    """The reward model of ``backbone`` and the score head in the safetensors file at ``path``.

    The file holds ``score.weight`` ``[1, H]``, or ``score.0.weight`` ``[N, H]`` and ``score.2.weight`` ``[1, N]``, with
    a bias for every layer or for none.

    Args:
        backbone: A checkpoint without a score head; its output head, if it has one of its own, is left out.
        path: The file.
        digest: Of backbone and head together, for ``Source.digest``.

    Raises:
        CheckpointError: The file cannot be read, its tensors do not fit, or it was trained on another backbone.
    """
    if backbone.architecture.score_head is not None:
        raise CheckpointError(f"{path}: {backbone.source.path} has a score head already")
    head = read_safetensors([path])
    _check_backbone(head, backbone, path)
    architecture = msgspec.structs.replace(backbone.architecture, score_head=_shape_of(head, path))
    expected = expected_tensors(architecture)
    wanted = {name: shape for name, shape in expected.items() if name.startswith("score.")}
    for name in [*wanted, *head]:
        if name not in head:
            raise CheckpointError(f"{path}: tensor {name!r} is missing")
        if name not in wanted:
            raise CheckpointError(f"{path}: tensor {name!r} is unknown; a head of this form has {', '.join(wanted)}")
        if head[name].shape != wanted[name]:
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {list(head[name].shape)}; the model "
                f"{backbone.source.name!r} needs {list(wanted[name])}"
            )
    return replace(
        backbone,
        source=msgspec.structs.replace(backbone.source, digest=digest or backbone.source.digest),
        architecture=architecture,
        tensors={name: head[name] if name in wanted else backbone.tensors[name] for name in expected},
    )


def _shape_of(head: dict[str, SafetensorsTensor], path: Path) -> ScoreHead:
    if _HIDDEN in head:
        shape = head[_HIDDEN].shape
        if not shape or not shape[0]:
            raise CheckpointError(f"{path}: tensor {_HIDDEN!r} is empty")
        return ScoreHead(hidden_size=shape[0], bias="score.0.bias" in head)
    if _SINGLE in head:
        return ScoreHead(bias="score.bias" in head)
    raise CheckpointError(f"{path}: holds neither {_SINGLE!r} nor {_HIDDEN!r}: it is no score head")


def _check_backbone(head: dict[str, SafetensorsTensor], backbone: Checkpoint, path: Path) -> None:
    metadata = next(iter(head.values())).handle.metadata() if head else None
    trained_on = (metadata or {}).get(BACKBONE_DIGEST)
    if trained_on not in (None, backbone.source.digest):
        raise CheckpointError(
            f"{path}: was trained on a checkpoint of sha256 {trained_on[:12]}..., but {backbone.source.path} has "
            f"{backbone.source.digest[:12]}...: its scores would mean nothing"
        )
