"""InternLM2 by the formula of its published modelling code, which transformers does not have; needs torch."""

from __future__ import annotations

import torch
from torch.nn import functional

from runtime.bundle.architecture import Architecture


class InternLM2Model:
    """Takes the published tensors: packed ``wqkv``, ``w1``, ``w3``, ``w2``, ``tok_embeddings``."""

    def __init__(self, architecture: Architecture, weights: dict[str, torch.Tensor]) -> None:
        self._architecture = architecture
        self._weights = weights

    def hidden_states(self, token_ids: torch.Tensor) -> torch.Tensor:
        """float32 ``[T, H]`` of one sequence, after the final norm."""
        x = self._weights["model.tok_embeddings.weight"][token_ids]
        for layer in range(self._architecture.num_layers):
            prefix = f"model.layers.{layer}"
            x = x + self._attention(f"{prefix}.attention", self._norm(f"{prefix}.attention_norm", x))
            x = x + self._mlp(f"{prefix}.feed_forward", self._norm(f"{prefix}.ffn_norm", x))
        return self._norm("model.norm", x)

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, x.shape[-1:], self._weights[f"{name}.weight"], self._architecture.norm_eps)

    def _mlp(self, name: str, x: torch.Tensor) -> torch.Tensor:
        w1, w2, w3 = (self._weights[f"{name}.w{number}.weight"] for number in (1, 2, 3))
        return (functional.silu(x @ w1.T) * (x @ w3.T)) @ w2.T

    def _attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        heads, kv_heads = self._architecture.num_heads, self._architecture.num_kv_heads
        groups = heads // kv_heads
        packed = (x @ self._weights[f"{name}.wqkv.weight"].T).view(len(x), kv_heads, groups + 2, -1)
        query = packed[:, :, :groups].reshape(len(x), heads, -1).transpose(0, 1)
        key = packed[:, :, -2].transpose(0, 1).repeat_interleave(groups, dim=0)
        value = packed[:, :, -1].transpose(0, 1).repeat_interleave(groups, dim=0)
        mixed = functional.scaled_dot_product_attention(self._rotate(query), self._rotate(key), value, is_causal=True)
        return mixed.transpose(0, 1).reshape(len(x), -1) @ self._weights[f"{name}.wo.weight"].T

    def _rotate(self, x: torch.Tensor) -> torch.Tensor:
        length, dim = x.shape[1:]
        inverse = 1.0 / (self._architecture.rope_theta ** (torch.arange(0, dim, 2).float() / dim))
        angles = torch.outer(torch.arange(length).float(), inverse).repeat(1, 2)
        first, second = x.chunk(2, dim=-1)
        return x * angles.cos() + torch.cat((-second, first), dim=-1) * angles.sin()
