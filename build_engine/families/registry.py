"""Which family a checkpoint belongs to."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.family import Family, TensorShapes
from build_engine.families.llama import LLAMA
from build_engine.families.mistral import MISTRAL
from build_engine.families.qwen2 import QWEN2
from build_engine.families.qwen3 import QWEN3
from runtime.bundle.architecture import Architecture

FAMILIES: dict[str, Family] = {family.name: family for family in (LLAMA, MISTRAL, QWEN2, QWEN3)}

_MAX_HEADS, _MAX_HEAD_DIM = 1 << 16, 1 << 12  # of the native attention


def architecture_from_config(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a Hugging Face ``config.json`` describes.

    Raises:
        CheckpointError: The family is not supported, or a field is missing or unusable. The message does not name
            the file: the reader does.
    """
    return checked(_family_of_config(config).from_config(config))


def architecture_from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    """The architecture that GGUF metadata describes.

    Args:
        metadata: Of the file; the values of a ``rope_freqs.weight`` tensor, if there is one, under that name.
        tensors: Shapes by GGUF name.

    Raises:
        CheckpointError: As ``architecture_from_config``.
    """
    return checked(gguf_family(metadata).from_gguf(metadata, tensors))


def gguf_family(metadata: Mapping[str, Any]) -> Family:
    """The family of a GGUF file."""
    name = metadata.get("general.architecture")
    for family in FAMILIES.values():
        if name in family.gguf_architectures:
            return family
    known = ", ".join(name for family in FAMILIES.values() for name in family.gguf_architectures)
    raise CheckpointError(f"general.architecture is {reprlib.repr(name)}; supported are {known}")


def _family_of_config(config: Mapping[str, Any]) -> Family:
    model_type, classes = config.get("model_type"), config.get("architectures")
    for family in FAMILIES.values():
        if model_type not in family.model_types:
            continue
        if classes and not (isinstance(classes, list) and any(name in classes for name in family.classes)):
            raise CheckpointError(f"architectures is {reprlib.repr(classes)}; supported is {', '.join(family.classes)}")
        return family
    known = ", ".join(name for family in FAMILIES.values() for name in family.model_types)
    raise CheckpointError(f"model_type is {reprlib.repr(model_type)}; supported are {known}")


def checked(architecture: Architecture) -> Architecture:
    """``architecture`` itself, its dimensions found to fit together.

    Raises:
        CheckpointError: They do not.
    """
    heads, kv_heads = architecture.num_heads, architecture.num_kv_heads
    if heads % kv_heads:
        raise CheckpointError(f"{heads} query heads cannot be shared out among {kv_heads} key-value heads")
    if architecture.head_dim % 2 or architecture.rotary_dim % 2:
        raise CheckpointError(f"head_dim {architecture.head_dim} and its rotating part have to be even")
    if not 0 < architecture.rotary_dim <= architecture.head_dim:
        raise CheckpointError(
            f"{architecture.rotary_dim} rotating dimensions do not fit heads of {architecture.head_dim}"
        )
    if heads > _MAX_HEADS or architecture.head_dim > _MAX_HEAD_DIM:
        raise CheckpointError(
            f"{heads} heads of {architecture.head_dim} are more than {_MAX_HEADS} of {_MAX_HEAD_DIM}, the limit"
        )
    return architecture
