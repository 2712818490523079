"""Which family a checkpoint belongs to."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import msgspec

from build_engine.errors import CheckpointError
from build_engine.families.family import Family, ScoreHeadReader, TensorShapes
from build_engine.families.gemma2 import GEMMA2
from build_engine.families.internlm2 import INTERNLM2
from build_engine.families.llama import LLAMA
from build_engine.families.mistral import MISTRAL
from build_engine.families.phi3 import PHI3
from build_engine.families.qwen2 import QWEN2
from build_engine.families.qwen3 import QWEN3
from runtime.bundle.architecture import Architecture

FAMILIES: dict[str, Family] = {
    family.name: family for family in (LLAMA, MISTRAL, QWEN2, QWEN3, PHI3, GEMMA2, INTERNLM2)
}

_MAX_HEADS, _MAX_HEAD_DIM = 1 << 16, 1 << 12  # of the native attention


def architecture_from_config(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a Hugging Face ``config.json`` describes.

    Raises:
        CheckpointError: The family is not supported, or a field is missing or unusable. The message does not name
            the file: the reader does.
    """
    family = config_family(config)
    read_head = _score_head_reader(family, _class_name(config))
    architecture = checked(family.from_config(config))
    if read_head is None:
        return architecture
    # NOTE: a reward model has no output head, so nothing that belongs to one is kept.
    return msgspec.structs.replace(
        architecture, score_head=read_head(config), tied_embeddings=False, logits_softcap=0.0
    )


def architecture_from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    """The architecture that GGUF metadata describes.

    Args:
        metadata: Of the file; the values of tensors that are rotary settings, as far as they are there, under their
            names (``gguf_rope.FACTOR_TENSORS``).
        tensors: Shapes by GGUF name.

    Raises:
        CheckpointError: As ``architecture_from_config``.
    """
    family = gguf_family(metadata)
    _refuse_classifiers(metadata, tensors)
    return checked(family.from_gguf(metadata, tensors))


def gguf_family(metadata: Mapping[str, Any]) -> Family:
    """The family of a GGUF file."""
    name = metadata.get("general.architecture")
    for family in FAMILIES.values():
        if name in family.gguf_architectures:
            return family
    known = ", ".join(name for family in FAMILIES.values() for name in family.gguf_architectures)
    raise CheckpointError(f"general.architecture is {reprlib.repr(name)}; supported are {known}")


def config_family(config: Mapping[str, Any]) -> Family:
    """The family of a Hugging Face ``config.json``, by its ``model_type``."""
    model_type = config.get("model_type")
    for family in FAMILIES.values():
        if model_type in family.model_types:
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


def _class_name(config: Mapping[str, Any]) -> str:
    """The first of ``architectures``, which decides what the model is; empty where there are none."""
    classes = config.get("architectures")
    if not classes:
        return ""
    if not isinstance(classes, list) or type(classes[0]) is not str:
        raise CheckpointError(f"architectures is {reprlib.repr(classes)}; it has to be a list of class names")
    return classes[0]


def _score_head_reader(family: Family, name: str) -> ScoreHeadReader | None:
    """What reads the score head of the class called ``name``, or ``None`` for a language model."""
    if not name or name in family.classes:
        return None
    if "ProcessRewardModel" in name:
        raise CheckpointError(f"{name} gives a score for each step; only models with one score a text are supported")
    for known, reader in family.reward_classes.items():
        # NOTE: LightLLM goes by this part of the name alone.
        if name == known or ("RewardModel" in name and "RewardModel" in known):
            return reader
    generation, reward = ", ".join(family.classes), ", ".join(family.reward_classes)
    raise CheckpointError(
        f"architectures is {reprlib.repr([name])}; supported are {generation} to generate and {reward} to score"
    )


def _refuse_classifiers(metadata: Mapping[str, Any], tensors: TensorShapes) -> None:
    pooling = metadata.get(f"{metadata.get('general.architecture')}.pooling_type")
    heads = [name for name in tensors if name.startswith("cls.")]
    if heads or pooling:
        found = f"tensor {heads[0]!r}" if heads else f"pooling_type {reprlib.repr(pooling)}"
        raise CheckpointError(
            f"is no generation model ({found}); of GGUF files only those are read: pass a reward model as its Hugging "
            "Face directory"
        )
