"""The shape of a decoder-only model: every option its graph has, and nothing about where weights come from."""

from __future__ import annotations

from typing import Literal

import msgspec


class RopeScaling(msgspec.Struct, frozen=True, kw_only=True):
    """Rotary-embedding scaling.

    ``linear`` divides positions by ``factor``; ``llama3`` is the wavelength-dependent rule of Llama 3.1
    (transformers ``_compute_llama3_parameters``).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """Dimensions and options of a decoder-only transformer with RMSNorm, rotary attention and a gated MLP.

    Attributes:
        family: Name of the family in ``build_engine.families``.
        rope_dim: Leading dimensions of each head that rotate (``head_dim`` unless partial).
        attention_bias: Q, K and V projections have biases.
        output_bias: The attention output projection has a bias.
        mlp_bias: The MLP projections have biases.
        qk_norm: RMSNorm over each head of Q and K before rotation (Qwen3).
        sliding_windows: Window of each layer in tokens, 0 for full attention; one entry per layer.
        attention_scale: Multiplies QK; 0 means ``head_dim ** -0.5``.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_dim: int = 0
    rope_scaling: RopeScaling | None = None
    tied_embeddings: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_windows: tuple[int, ...] = ()
    activation: Literal["silu", "gelu_tanh"] = "silu"
    attention_scale: float = 0.0

    @property
    def scale(self) -> float:
        """The factor on QK products."""
        return self.attention_scale or self.head_dim**-0.5

    @property
    def rotary_dim(self) -> int:
        """Leading dimensions of each head that rotate."""
        return self.rope_dim or self.head_dim

    def window(self, layer: int) -> int:
        """The sliding window of ``layer`` in tokens; 0 is full attention."""
        return self.sliding_windows[layer] if self.sliding_windows else 0

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Bytes of KV cache that one token takes over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * element_bytes
