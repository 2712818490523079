"""A float32 NumPy decoder with the step contract of the engines: slow, plain, and what they are measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from runtime.bundle.architecture import Architecture, ScoreHead
from runtime.reference.attention import paged_attention, rotary_tables
from runtime.reference.prompt_attention import prompt_attention

Floats = npt.NDArray[np.float32]
Pool = npt.NDArray[np.float32] | npt.NDArray[np.float16]


class ReferenceDecoder:
    """Runs an `Architecture` in float32.

    Args:
        architecture: Dimensions and options.
        weights: float32 arrays under Hugging Face's Llama names; linear weights are ``[out, in]``.
        rowwise: Compute every row on its own, so that the bits of a row do not depend on what else is in the step.
            Otherwise rows go through whole matrix products: fast, but a row's last bits depend on its neighbours.
    """

    def __init__(self, architecture: Architecture, weights: Mapping[str, Floats], *, rowwise: bool = False) -> None:
        self.architecture = architecture
        self._weights = weights
        self._rowwise = rowwise
        self._cos, self._sin = rotary_tables(
            architecture.rope_theta,
            architecture.rotary_dim,
            architecture.context_length,
            architecture.rope_scaling,
        )

    def step(
        self,
        token_ids: npt.NDArray[np.int64],
        cu_seqlens: npt.NDArray[np.int32],
        past_lens: npt.NDArray[np.int32],
        block_table: npt.NDArray[np.int32],
        logits_rows: npt.NDArray[np.int64],
        k_caches: Sequence[Pool],
        v_caches: Sequence[Pool],
    ) -> Floats:
        """Runs one packed, ragged step and updates the pools in place.

        Args:
            token_ids: ``[T]``, the new tokens of all sequences, concatenated.
            cu_seqlens: ``[B + 1]``, prefix sums of the new-token counts.
            past_lens: ``[B]``, tokens of each sequence already in the cache.
            block_table: ``[B, M]``, the sequence's blocks in order, -1 padded.
            logits_rows: ``[R]``, rows of ``[0, T)`` whose logits or scores are wanted.
            k_caches: One ``[num_blocks, kv_heads, block_size, head_dim]`` a layer.
            v_caches: The same for values.

        Returns:
            Logits, float32 ``[R, V]``; of a reward model scores, float32 ``[R]``.
        """
        architecture, weights = self.architecture, self._weights
        x = weights["model.embed_tokens.weight"][token_ids] * np.float32(architecture.embedding_scale)
        for layer in range(architecture.num_layers):
            pools = (k_caches[layer], v_caches[layer])
            qkv = self._rows(lambda row, layer=layer: self._qkv(layer, row), x)
            mixed = self._attention(layer, qkv, pools, cu_seqlens, past_lens, block_table)
            x = self._rows(lambda row, mix, layer=layer: self._after_attention(layer, row, mix), x, mixed)
        head = architecture.score_head
        return self._rows(self._logits if head is None else partial(self._scores, head), x[logits_rows])

    def _rows(self, function: Callable[..., Floats], *inputs: Floats) -> Floats:
        """Applies a function of ``[T, ...]`` arrays to all rows at once, or row by row."""
        if not self._rowwise or not len(inputs[0]):
            return function(*inputs)
        rows = zip(*inputs, strict=True)
        return np.concatenate([function(*(part[None] for part in row)) for row in rows])

    def _qkv(self, layer: int, x: Floats) -> Floats:
        normed = self._norm(x, f"model.layers.{layer}.input_layernorm.weight")
        bias = self.architecture.attention_bias
        parts = [self._linear(layer, f"self_attn.{part}_proj", normed, bias) for part in "qkv"]
        return np.concatenate(parts, axis=1)

    def _after_attention(self, layer: int, x: Floats, mixed: Floats) -> Floats:
        branch = self._linear(layer, "self_attn.o_proj", mixed, self.architecture.output_bias)
        x = x + self._output_norm(layer, "self_attn", branch)
        normed = self._norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
        bias = self.architecture.mlp_bias
        gate = self._linear(layer, "mlp.gate_proj", normed, bias)
        up = self._linear(layer, "mlp.up_proj", normed, bias)
        branch = self._linear(layer, "mlp.down_proj", _ACTIVATIONS[self.architecture.activation](gate) * up, bias)
        return x + self._output_norm(layer, "mlp", branch)

    def _output_norm(self, layer: int, part: str, branch: Floats) -> Floats:
        if not self.architecture.output_norms:
            return branch
        return self._norm(branch, f"model.layers.{layer}.{part}.output_norm.weight")

    def _logits(self, x: Floats) -> Floats:
        tied = self.architecture.tied_embeddings
        head = self._weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
        logits = self._product(self._norm(x, "model.norm.weight"), head)
        if self.architecture.logits_softcap:
            cap = np.float32(self.architecture.logits_softcap)
            logits /= cap
            np.tanh(logits, out=logits)  # in place: a vocabulary of rows is large
            logits *= cap
        return logits

    def _scores(self, head: ScoreHead, x: Floats) -> Floats:
        normed = self._norm(x, "model.norm.weight")
        if not head.hidden_size:
            return self._affine("score", normed, head.bias)[:, 0]
        hidden = np.maximum(self._affine("score.0", normed, head.bias), np.float32(0))
        return self._affine("score.2", hidden, head.bias)[:, 0]

    def _linear(self, layer: int, part: str, x: Floats, bias: bool) -> Floats:
        return self._affine(f"model.layers.{layer}.{part}", x, bias)

    def _affine(self, name: str, x: Floats, bias: bool) -> Floats:
        product = self._product(x, self._weights[f"{name}.weight"])
        return product + self._weights[f"{name}.bias"] if bias else product

    def _product(self, x: Floats, weight: Floats) -> Floats:
        """``x @ weight.T``."""
        if not self._rowwise:
            return x @ weight.T
        # NOTE: a sum, not a BLAS call: those choose their order by alignment and thread count.
        product: Floats = (weight * x).sum(axis=1)[None] if len(x) else np.empty((0, len(weight)), np.float32)
        return product

    def _norm(self, x: Floats, weight: str) -> Floats:
        variance = np.mean(x * x, axis=-1, keepdims=True)
        normed: Floats = x / np.sqrt(variance + np.float32(self.architecture.norm_eps)) * self._weights[weight]
        return normed

    def _attention(
        self,
        layer: int,
        qkv: Floats,
        pools: tuple[Pool, Pool],
        cu_seqlens: npt.NDArray[np.int32],
        past_lens: npt.NDArray[np.int32],
        block_table: npt.NDArray[np.int32],
    ) -> Floats:
        architecture = self.architecture
        prefix = f"model.layers.{layer}.self_attn"
        attend = paged_attention if self._rowwise else prompt_attention
        return attend(
            qkv,
            *pools,
            cu_seqlens,
            past_lens,
            block_table,
            self._cos,
            self._sin,
            num_heads=architecture.num_heads,
            kv_num_heads=architecture.num_kv_heads,
            head_dim=architecture.head_dim,
            scale=architecture.scale,
            sliding_window=architecture.window(layer),
            softcap=architecture.attention_softcap,
            rotary_dim=architecture.rotary_dim,
            norm_eps=architecture.norm_eps,
            q_norm=self._weights[f"{prefix}.q_norm.weight"] if architecture.qk_norm else None,
            k_norm=self._weights[f"{prefix}.k_norm.weight"] if architecture.qk_norm else None,
        )


def _silu(x: Floats) -> Floats:
    decay = np.exp(-np.abs(x))  # never overflows
    activated: Floats = x * np.where(x >= 0, np.float32(1), decay) / (1 + decay)
    return activated


def _gelu_tanh(x: Floats) -> Floats:
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    activated: Floats = np.float32(0.5) * x * (1 + np.tanh(inner))
    return activated


_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {"silu": _silu, "gelu_tanh": _gelu_tanh}
