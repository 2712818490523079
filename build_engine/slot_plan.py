"""Sizes of engines with linear KV slots, for the plan."""

from __future__ import annotations

import math

from build_engine.checkpoint import Checkpoint
from build_engine.errors import BuildError
from build_engine.families import expected_tensors
from build_engine.families.names import EMBEDDING, HEAD
from build_engine.graph.element import Element
from build_engine.options import TENSORRT_TARGETS, Profile
from build_engine.quantize.matrix import GROUP
from runtime.bundle.architecture import Architecture

_FLOAT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_STORED_BITS = {"q8_0": 8, "iq4_nl": 8, "q4_0": 4}
_SCALE_BYTES = 2
_DEFAULT_SEQUENCE = 2048


def sequence_length(architecture: Architecture, asked: int | None) -> int:
    """Tokens that a sequence may have; without a wish, what most requests need and memory allows.

    Raises:
        BuildError: More was asked for than the model can take.
    """
    if asked is None:
        return min(architecture.context_length, _DEFAULT_SEQUENCE)
    if asked > architecture.context_length:
        raise BuildError(f"max-seq-len {asked}: the model's context ends at {architecture.context_length}")
    return asked


def slot_element(checkpoint: Checkpoint, profile: Profile) -> Element:
    """What is not quantised: bfloat16 where the weights were trained in it, or embeddings are scaled up; else float16.

    NOTE: activations of models trained in bfloat16 may be too large for float16, and Gemma's are.
    """
    named: dict[str, Element] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    if profile.precision in named:
        return named[profile.precision]
    trained = checkpoint.tensors[EMBEDDING].encoding == "bf16" or checkpoint.architecture.embedding_scale != 1.0
    return "bfloat16" if trained else "float16"


def resolve_slot_precision(checkpoint: Checkpoint, profile: Profile) -> str:
    """The precision that ``auto`` stands for: the float type of `slot_element`.

    Raises:
        BuildError: ``import`` was asked of a checkpoint whose blocks are not among those that can be kept.
    """
    encodings = {tensor.encoding for tensor in checkpoint.tensors.values()}
    if profile.precision == "import" and not encodings & _STORED_BITS.keys():
        raise BuildError(
            f"{checkpoint.source.path}: has no blocks that such an engine can keep "
            f"({', '.join(sorted(_STORED_BITS))}); use --precision int8 or int4"
        )
    if profile.precision != "auto":
        return profile.precision
    return "bf16" if slot_element(checkpoint, profile) == "bfloat16" else "fp16"


def cache_element(checkpoint: Checkpoint, profile: Profile) -> Element:
    """Of the KV cache: what the engine computes in."""
    return slot_element(checkpoint, profile) if profile.target in TENSORRT_TARGETS else "float32"


def slot_weight_bytes(checkpoint: Checkpoint, precision: str) -> int:
    """Of all weights as they are stored."""
    return sum(
        _stored_bytes(name, shape, checkpoint.tensors[name].encoding, precision)
        for name, shape in expected_tensors(checkpoint.architecture).items()
    )


def _stored_bytes(name: str, shape: tuple[int, ...], encoding: str, precision: str) -> int:
    count = math.prod(shape)
    if name.startswith("score."):
        return count * 4
    if precision in _FLOAT_BYTES or len(shape) == 1 or name in (EMBEDDING, HEAD):
        return count * _FLOAT_BYTES.get(precision, 2)
    bits = 4 if precision == "int4" else 8
    if precision == "import":
        bits = _STORED_BITS.get(encoding, 8)
    return count * bits // 8 + count // GROUP * _SCALE_BYTES
