"""Rotates the residual stream of a model: the same function of float weights, without the outliers that int8 chokes on.

RMSNorm without a gain commutes with an orthogonal matrix ``R``. So the gains ``g`` go into the layers that read the
norms (``W diag(g) R``), what writes to the stream writes it rotated (``R.T W``), and so does the embedding (``E R``).
Values of each head are rotated between V and O in the same way. Ashkboos et al., QuaRot, 2024, without its online part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import msgspec
import numpy as np

from build_engine.checkpoint import Checkpoint, CheckpointTensor, QuantBlocks
from build_engine.errors import BuildError, CheckpointError
from build_engine.families.names import EMBEDDING, FINAL_NORM, HEAD, expected_tensors
from build_engine.passes.orthogonal import LARGEST_REMAINDER, Floats, Orthogonal, odd_part
from runtime.bundle.architecture import Architecture

_STREAM_SEED = 1
_VALUE_SEED = 2
_NORM_BEFORE = {
    "q_proj": "input_layernorm",
    "k_proj": "input_layernorm",
    "v_proj": "input_layernorm",
    "gate_proj": "post_attention_layernorm",
    "up_proj": "post_attention_layernorm",
}
_AFTER_FINAL_NORM = (HEAD, "score.weight", "score.0.weight")


def refusal(architecture: Architecture) -> str:
    """Why a model of ``architecture`` cannot be rotated; empty when it can."""
    if architecture.output_norms:
        return f"{architecture.family} multiplies what joins the residual stream by norms of its own"
    for what, order in (("hidden size", architecture.hidden_size), ("head size", architecture.head_dim)):
        if odd_part(order) > LARGEST_REMAINDER:
            return f"the odd part of {what} {order} is above {LARGEST_REMAINDER}"
    return ""


def can_rotate(architecture: Architecture) -> bool:
    """Whether `rotated` takes a model of ``architecture``; `refusal` says why not."""
    return not refusal(architecture)


def rotated(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with its residual stream, and the values of each head, rotated.

    Norm gains become ones and a tied head becomes a matrix of its own. Every tensor is float32, and computed in float64
    each time it is asked for; nothing is kept.

    Raises:
        BuildError: The architecture cannot be rotated.
    """
    why = refusal(checkpoint.architecture)
    if why:
        raise BuildError(f"{checkpoint.source.path}: cannot be rotated: {why}")
    architecture = msgspec.structs.replace(checkpoint.architecture, tied_embeddings=False)
    model = _Rotation(checkpoint)
    tensors: dict[str, CheckpointTensor] = {
        name: RotatedTensor(name, shape, partial(model.compute, name))
        for name, shape in expected_tensors(architecture).items()
    }
    return replace(checkpoint, architecture=architecture, tensors=tensors)


@dataclass(slots=True)
class RotatedTensor:
    """A `CheckpointTensor` that is computed when it is asked for."""

    name: str
    shape: tuple[int, ...]
    compute: Callable[[], Floats]
    encoding: str = "f32"

    def float32(self) -> Floats:
        """See `CheckpointTensor`."""
        return self.compute()

    def blocks(self) -> QuantBlocks:
        """See `CheckpointTensor`."""
        raise CheckpointError(f"{self.name}: a rotated tensor has no blocks")


def _norm_before(name: str, module: str) -> str:
    """The norm whose output the linear layer ``name`` reads; empty where it reads something else."""
    if name in _AFTER_FINAL_NORM:
        return FINAL_NORM
    layer = ".".join(name.split(".")[:3])
    return f"{layer}.{_NORM_BEFORE[module]}.weight" if module in _NORM_BEFORE else ""


class _Rotation:
    """The tensors of one rotated model, by name."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._tensors = checkpoint.tensors
        self._architecture = checkpoint.architecture

    @cached_property
    def _stream(self) -> Orthogonal:
        return Orthogonal(self._architecture.hidden_size, _STREAM_SEED)

    @cached_property
    def _value(self) -> Orthogonal:
        return Orthogonal(self._architecture.head_dim, _VALUE_SEED)

    def compute(self, name: str) -> Floats:
        """The rotated tensor ``name``; what neither reads nor writes the stream, nor values, is as it was."""
        owner, _, kind = name.rpartition(".")
        module = owner.rpartition(".")[2]
        return self._bias(name, module) if kind == "bias" else self._weight(name, module)

    def _weight(self, name: str, module: str) -> Floats:
        if name == EMBEDDING:
            return self._stream.after(self._original(name))
        if name == FINAL_NORM or module in _NORM_BEFORE.values():
            return np.ones_like(self._original(name))
        norm = _norm_before(name, module)
        if norm:
            tied = name == HEAD and self._architecture.tied_embeddings
            read = self._stream.after(self._original(EMBEDDING if tied else name) * self._original(norm))
            return self._value_rows(read) if module == "v_proj" else read
        if module == "o_proj":
            return self._stream.before(self._value_columns(self._original(name)))
        return self._stream.before(self._original(name)) if module == "down_proj" else self._original(name)

    def _bias(self, name: str, module: str) -> Floats:
        original = self._original(name)
        if module == "v_proj":
            return self._value_rows(original[:, None])[:, 0]
        return self._stream.after(original[None])[0] if module in ("o_proj", "down_proj") else original

    def _value_rows(self, weight: Floats) -> Floats:
        """Of each KV head ``H.T W``: ``[kv_heads * dim, n]`` in and out."""
        order = self._value.order
        heads = weight.reshape(-1, order, weight.shape[1])
        return np.concatenate([self._value.before(head) for head in heads])

    def _value_columns(self, weight: Floats) -> Floats:
        """Of each query head ``W H``: ``[n, heads * dim]`` in and out."""
        columns: Floats = self._value.after(weight.reshape(-1, self._value.order)).reshape(weight.shape)
        return columns

    def _original(self, name: str) -> Floats:
        tensor = self._tensors[name]
        values: Floats = tensor.float32().reshape(tensor.shape)
        return values
