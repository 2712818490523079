"""The tiny models whose logits and greedy continuations, or scores, are checked in beside this file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tiny import VOCAB_SIZE, tiny_checkpoint

from build_engine.checkpoint import Checkpoint
from runtime.bundle.architecture import RopeScaling, ScoreHead

PROMPT_TOKENS = 24
GREEDY_PROMPT_TOKENS = 12
GREEDY_TOKENS = 16


@dataclass(frozen=True)
class GoldenCase:
    """One tiny model: a family and the options that differ from it."""

    name: str
    family: str
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return Path(__file__).with_name(f"{self.name}.npz")

    def checkpoint(self) -> Checkpoint:
        return tiny_checkpoint(self.family, **self.overrides)

    def prompt(self) -> npt.NDArray[np.int64]:
        return np.random.RandomState(7).randint(0, VOCAB_SIZE, PROMPT_TOKENS).astype(np.int64)

    def golden(self) -> Golden:
        with np.load(self.path, allow_pickle=False) as arrays:
            return Golden(arrays["logits"], arrays["continuation"])

    def scores(self) -> npt.NDArray[np.float32]:
        """Of a reward model: float32 ``[24]``, after each token of the prompt."""
        with np.load(self.path, allow_pickle=False) as arrays:
            return arrays["scores"]


@dataclass(frozen=True)
class Golden:
    """What transformers computed.

    Attributes:
        logits: float32 ``[24, V]``, of every position of the prompt.
        continuation: int64 ``[16]``, greedy, after the first 12 tokens of the prompt.
    """

    logits: npt.NDArray[np.float32]
    continuation: npt.NDArray[np.int64]


def longrope(rotary_dim: int, original: int) -> RopeScaling:
    """Each frequency divided by more than the one before; the attention factor that transformers derives."""
    factors = tuple(1 + 0.75 * index for index in range(rotary_dim // 2))
    attention_factor = math.sqrt(1 + math.log(256 / original) / math.log(original))
    return RopeScaling(
        kind="longrope", factors=factors, attention_factor=attention_factor, original_context_length=original
    )


_LLAMA3 = RopeScaling(kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=32)
_ONE_LAYER = ScoreHead()
_TWO_LAYERS = ScoreHead(hidden_size=64, bias=True)

CASES = (
    GoldenCase("llama", "llama"),
    GoldenCase("llama-linear-rope", "llama", {"rope_scaling": RopeScaling(kind="linear", factor=2.5)}),
    GoldenCase("llama-llama3-rope", "llama", {"rope_scaling": _LLAMA3}),
    GoldenCase("llama-biased", "llama", {"attention_bias": True, "output_bias": True, "mlp_bias": True}),
    GoldenCase("mistral", "mistral"),
    GoldenCase("qwen2", "qwen2"),
    GoldenCase("qwen2-windows", "qwen2", {"sliding_windows": (0, 7), "tied_embeddings": False}),
    GoldenCase("qwen3", "qwen3"),
    GoldenCase("qwen3-biased", "qwen3", {"attention_bias": True, "output_bias": True, "tied_embeddings": True}),
    GoldenCase("phi3", "phi3"),
    GoldenCase("phi3-window", "phi3", {"sliding_windows": (6, 6), "seed": 1}),
    GoldenCase("phi3-partial-rotation", "phi3", {"rope_dim": 8}),
    GoldenCase("phi3-longrope-long", "phi3", {"rope_dim": 12, "rope_scaling": longrope(12, original=8)}),
    GoldenCase("phi3-longrope-short", "phi3", {"rope_dim": 12, "rope_scaling": longrope(12, original=64), "seed": 1}),
    GoldenCase("gemma2", "gemma2", {"num_layers": 6, "sliding_windows": (5, 0) * 3}),
    GoldenCase("internlm2", "internlm2"),
)

SCORE_CASES = (
    GoldenCase("llama-score", "llama", {"score_head": _ONE_LAYER}),
    GoldenCase("qwen2-score", "qwen2", {"score_head": _ONE_LAYER}),
    GoldenCase("qwen3-score", "qwen3", {"score_head": _ONE_LAYER}),
    GoldenCase("gemma2-score", "gemma2", {"score_head": _ONE_LAYER}),
    GoldenCase("qwen2-reward", "qwen2", {"score_head": _TWO_LAYERS, "tied_embeddings": False}),
    GoldenCase("internlm2-reward", "internlm2", {"score_head": _ONE_LAYER}),
)
