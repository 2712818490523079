"""The one check of a checkpoint's tensors against its architecture, whatever the format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from build_engine.checkpoint import CheckpointTensor
from build_engine.errors import CheckpointError
from build_engine.families.names import HEAD, expected_tensors
from runtime.bundle.architecture import Architecture

_IGNORED_SUFFIXES = ("rotary_emb.inv_freq", "self_attn.masked_bias")
_SHOWN = 4

T = TypeVar("T", bound=CheckpointTensor)


def select_tensors(architecture: Architecture, found: Mapping[str, T], path: Path) -> dict[str, T]:
    """The tensors that ``architecture`` needs, in its order.

    Buffers that are recomputed (rotary frequencies) and a head stored beside tied embeddings are left out.

    Args:
        architecture: From the checkpoint's configuration.
        found: By Hugging Face name; names that have none are kept as they are in the file.
        path: For messages.

    Raises:
        CheckpointError: A tensor is missing, has the wrong shape, or is not known.
    """
    expected = expected_tensors(architecture)
    missing = [name for name in expected if name not in found]
    if missing:
        raise CheckpointError(f"{path}: {_list(missing)} missing (family {architecture.family!r})")
    unknown = [name for name in found if name not in expected and not _ignorable(name, architecture)]
    if unknown:
        raise CheckpointError(
            f"{path}: {_list(unknown)} unknown to family {architecture.family!r}: "
            "the model has parts that would be left out"
        )
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {list(found[name].shape)}; the configuration says {list(shape)}"
            )
    return {name: found[name] for name in expected}


def _ignorable(name: str, architecture: Architecture) -> bool:
    return name.endswith(_IGNORED_SUFFIXES) or (name == HEAD and architecture.tied_embeddings)


def _list(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"tensor{'s' if len(names) > 1 else ''} {shown}{more}"
