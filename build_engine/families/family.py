"""What a model family contributes: how its configurations are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.bundle.architecture import Architecture

TensorShapes = Mapping[str, tuple[int, ...]]
"""GGUF tensor name -> shape, rows first."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family of decoder-only models.

    Attributes:
        name: As in ``Architecture.family``.
        model_types: ``model_type`` of ``config.json``.
        classes: Entries of ``architectures`` in ``config.json`` that are this family's language model.
        gguf_architectures: ``general.architecture`` of GGUF files.
        from_config: Reads ``config.json``.
        from_gguf: Reads GGUF metadata and tensor shapes.
        gguf_interleaved: GGUF files of this family store Q and K rows for interleaved rotation.
    """

    name: str
    model_types: tuple[str, ...]
    classes: tuple[str, ...]
    gguf_architectures: tuple[str, ...]
    from_config: Callable[[Mapping[str, Any]], Architecture]
    from_gguf: Callable[[Mapping[str, Any], TensorShapes], Architecture]
    gguf_interleaved: bool = False
