"""The tiny models whose logits and greedy continuations are checked in beside this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tiny import VOCAB_SIZE, tiny_checkpoint

from build_engine.checkpoint import Checkpoint
from runtime.bundle.architecture import RopeScaling

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


@dataclass(frozen=True)
class Golden:
    """What transformers computed.

    Attributes:
        logits: float32 ``[24, V]``, of every position of the prompt.
        continuation: int64 ``[16]``, greedy, after the first 12 tokens of the prompt.
    """

    logits: npt.NDArray[np.float32]
    continuation: npt.NDArray[np.int64]


_LLAMA3 = RopeScaling(kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=32)

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
)
