"""The shape of a decoder-only model: every option its graph has, and nothing about where weights come from."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
Size = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class RopeScaling(msgspec.Struct, frozen=True, kw_only=True):
    """Rotary-embedding scaling.

    ``linear`` divides positions by ``factor``; ``llama3`` is the wavelength-dependent rule of Llama 3.1
    (transformers ``_compute_llama3_parameters``); ``longrope`` divides each frequency by its own one of ``factors`` and
    multiplies cosines and sines by ``attention_factor`` (transformers ``_compute_longrope_parameters``).
    """

    kind: Literal["linear", "llama3", "longrope"]
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192
    factors: tuple[float, ...] = ()
    attention_factor: float = 1.0


class ScoreHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a reward model has in place of the output head: the final norm's output becomes one number.

    One linear layer, or a hidden one with ReLU before it.

    Attributes:
        hidden_size: Width of the hidden layer; 0 where there is none.
        bias: The linear layers have biases.
        marker_token_id: Token that the model wants after a rendered chat (InternLM2's ``<|reward|>``), or -1.
        pad_token_id: Trailing tokens of this id are no part of a text, or -1 where every token is: transformers'
            sequence classification takes the score of the last token that is not padding.
    """

    hidden_size: Size = 0
    bias: bool = False
    marker_token_id: int = -1
    pad_token_id: int = -1


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
        attention_softcap: ``c`` of ``c * tanh(x / c)`` on scaled QK products; 0 is off (Gemma 2).
        logits_softcap: The same on the logits.
        embedding_scale: Multiplies embeddings.
        output_norms: RMSNorm on what attention and MLP give, before it joins the residual stream (Gemma 2).
        score_head: Present in reward models, which have no output head.
    """

    family: str
    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    num_layers: Count
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count
    context_length: Count
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_dim: Size = 0
    rope_scaling: RopeScaling | None = None
    tied_embeddings: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_windows: tuple[Size, ...] = ()
    activation: Literal["silu", "gelu_tanh"] = "silu"
    attention_scale: float = 0.0
    attention_softcap: float = 0.0
    logits_softcap: float = 0.0
    embedding_scale: float = 1.0
    output_norms: bool = False
    score_head: ScoreHead | None = None

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
