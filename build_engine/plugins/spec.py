"""The numbers that the plugins' kernels are compiled for."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from build_engine.errors import BuildError
from runtime.bundle.architecture import Architecture

MAX_SPLITS = 32
MAX_HEAD_DIM = 576


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """One attention layer over a paged KV cache; layers that agree share their kernels.

    Attributes:
        dtype: Of activations and cache.
        num_heads: Query heads; a multiple of ``num_kv_heads``.
        num_kv_heads: Key and value heads.
        head_dim: Elements of a head; even.
        block_size: Tokens of a cache block.
        rotary_dim: Leading elements of a head that rotate; even.
        scale: Factor on QK products, applied to the rotated queries.
        qk_norm: RMSNorm over each head of Q and K, before rotation.
        norm_eps: Its epsilon.
        sliding_window: A query at ``p`` sees ``p - sliding_window + 1 .. p``; 0 is all.
        softcap: ``s = softcap * tanh(s / softcap)`` on scores; 0 is off.
        splits: Parts, at most, that the keys of a decoding sequence are cut into. The work of one sequence is
            ``num_kv_heads * splits`` blocks, so a batch of one fills a GPU only with many.

    Raises:
        BuildError: The kernels cannot do that.
    """

    dtype: Literal["float16", "bfloat16"]
    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    rotary_dim: int
    scale: float
    qk_norm: bool = False
    norm_eps: float = 1e-5
    sliding_window: int = 0
    softcap: float = 0.0
    splits: int = 16

    def __post_init__(self) -> None:
        _require(self.dtype in ("float16", "bfloat16"), f"dtype {self.dtype}: float16 or bfloat16 is needed")
        heads, kv_heads = self.num_heads, self.num_kv_heads
        _require(kv_heads > 0 and heads > 0 and heads % kv_heads == 0, f"{heads} heads cannot share {kv_heads}")
        size = self.head_dim
        _require(0 < size <= MAX_HEAD_DIM and size % 2 == 0, f"head size {size}: even, at most {MAX_HEAD_DIM}")
        rotary = self.rotary_dim
        _require(0 < rotary <= size and rotary % 2 == 0, f"rotary_dim {rotary}: even, at most the head size {size}")
        _require(self.block_size > 0, f"block_size {self.block_size}: at least 1")
        _require(0 < self.splits <= MAX_SPLITS, f"splits {self.splits}: 1 to {MAX_SPLITS}")
        _require(self.sliding_window >= 0 and self.softcap >= 0, "sliding_window and softcap: at least 0")

    @classmethod
    def of_layer(
        cls, architecture: Architecture, layer: int, dtype: Literal["float16", "bfloat16"], block_size: int
    ) -> AttentionSpec:
        """The attention of one layer of a model."""
        return cls(
            dtype=dtype,
            num_heads=architecture.num_heads,
            num_kv_heads=architecture.num_kv_heads,
            head_dim=architecture.head_dim,
            block_size=block_size,
            rotary_dim=architecture.rotary_dim,
            scale=architecture.scale,
            qk_norm=architecture.qk_norm,
            norm_eps=architecture.norm_eps,
            sliding_window=architecture.window(layer),
            softcap=architecture.attention_softcap,
        )

    @classmethod
    def from_json(cls, text: str) -> AttentionSpec:
        """What ``to_json`` wrote.

        Raises:
            BuildError: It is something else.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise BuildError(f"plugin attribute spec: {error}") from error

    def to_json(self) -> str:
        """The form in which the spec is an attribute of a plugin node."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def tensor_cores(self) -> bool:
        """Whether the tensor-core kernel takes this head size."""
        return self.head_dim % 16 == 0 and self.head_dim <= 128


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise BuildError(f"KV-cache plugin: {problem}")
