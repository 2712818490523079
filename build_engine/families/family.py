"""What a model family contributes: how its configurations are read, and how its files name and pack their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from build_engine.families.layout import CANONICAL, GGUF, Layout
from runtime.bundle.architecture import Architecture, ScoreHead

TensorShapes = Mapping[str, tuple[int, ...]]
"""GGUF tensor name -> shape, rows first."""

ScoreHeadReader = Callable[[Mapping[str, Any]], ScoreHead]
"""Reads what ``config.json`` says about a score head."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family of decoder-only models.

    Attributes:
        name: As in ``Architecture.family``.
        model_types: ``model_type`` of ``config.json``.
        classes: First entries of ``architectures`` in ``config.json`` that are this family's language model.
        gguf_architectures: ``general.architecture`` of GGUF files.
        from_config: Reads ``config.json``, apart from the score head.
        from_gguf: Reads GGUF metadata and tensor shapes.
        reward_classes: First entries of ``architectures`` that are this family with a score head in place of the output
            head -> what reads that head.
        huggingface: Names and packing in Hugging Face directories.
        gguf: Names and packing in GGUF files.
    """

    name: str
    model_types: tuple[str, ...]
    classes: tuple[str, ...]
    gguf_architectures: tuple[str, ...]
    from_config: Callable[[Mapping[str, Any]], Architecture]
    from_gguf: Callable[[Mapping[str, Any], TensorShapes], Architecture]
    reward_classes: Mapping[str, ScoreHeadReader] = field(default_factory=dict)
    huggingface: Layout = CANONICAL
    gguf: Layout = GGUF
