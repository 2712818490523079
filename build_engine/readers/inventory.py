"""From a file's tensors to the canonical ones: the one check of their names and shapes, whatever the format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self, TypeVar

from build_engine.checkpoint import CheckpointTensor
from build_engine.errors import CheckpointError
from build_engine.families.layout import CANONICAL, Layout, Run, stored_tensors
from build_engine.families.names import HEAD
from build_engine.readers.score_tensors import check_score_head
from runtime.bundle.architecture import Architecture

_IGNORED_SUFFIXES = ("rotary_emb.inv_freq", "self_attn.masked_bias")
_SHOWN = 4


class FileTensor(CheckpointTensor, Protocol):
    """A tensor of a file, of which parts can be taken without reading it."""

    def part(self, name: str, rows: tuple[Run, ...], offset: float) -> Self:
        """The ``rows`` of it, all where that is empty, as ``name``; ``offset`` is added to the values."""
        ...


T = TypeVar("T", bound=FileTensor)


def select_tensors(
    architecture: Architecture, found: Mapping[str, T], path: Path, layout: Layout = CANONICAL
) -> dict[str, T]:
    """The canonical tensors that ``architecture`` needs.

    Buffers that are recomputed (rotary frequencies) and an output head that is not used (embeddings are tied, or it is
    a reward model) are left out.

    Args:
        architecture: From the checkpoint's configuration.
        found: By name in the file.
        path: For messages.
        layout: Names and packing in the file.

    Raises:
        CheckpointError: A tensor is missing, has the wrong shape, or is not known.
    """
    stored = stored_tensors(layout, architecture)
    check_score_head(architecture, stored, found, path)
    missing = [name for name in stored if name not in found]
    if missing:
        raise CheckpointError(f"{path}: {_list(missing)} missing (family {architecture.family!r})")
    # NOTE: an output head that is needed is in `stored`, under this name.
    expected = {*stored, layout.name(HEAD)}
    unknown = [name for name in found if name not in expected and not name.endswith(_IGNORED_SUFFIXES)]
    if unknown:
        raise CheckpointError(
            f"{path}: {_list(unknown)} unknown to family {architecture.family!r}: "
            "the model has parts that would be left out"
        )
    tensors: dict[str, T] = {}
    for name, tensor in stored.items():
        if tuple(found[name].shape) != tensor.shape:
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {list(found[name].shape)}; the configuration says "
                f"{list(tensor.shape)}"
            )
        for part in tensor.parts:
            offset = layout.norm_offset if part.name.endswith("norm.weight") else 0.0
            tensors[part.name] = found[name].part(part.name, part.rows, offset)
    return tensors


def _list(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"tensor{'s' if len(names) > 1 else ''} {shown}{more}"
