"""Which tensor of a checkpoint plays which part, under Hugging Face's Llama names."""

from __future__ import annotations

from build_engine.families.names import EMBEDDING, HEAD
from runtime.bundle.architecture import Architecture


def layer_name(layer: int, part: str) -> str:
    """``model.layers.<layer>.<part>``."""
    return f"model.layers.{layer}.{part}"


def head_name(architecture: Architecture) -> str:
    """The tensor of the output head: the embedding where they are tied."""
    return EMBEDDING if architecture.tied_embeddings else HEAD
