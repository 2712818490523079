"""The same tiny models in transformers; needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tiny import tiny_weights
from transformers import AutoConfig, AutoModelForCausalLM

from build_engine.checkpoint import Checkpoint
from runtime.bundle.architecture import Architecture


def _windows(architecture: Architecture) -> dict[str, Any]:
    if not architecture.sliding_windows:
        return {"use_sliding_window": False}
    kinds = ["sliding_attention" if window else "full_attention" for window in architecture.sliding_windows]
    return {"use_sliding_window": True, "sliding_window": max(architecture.sliding_windows), "layer_types": kinds}


_OPTIONS: dict[str, Any] = {
    "llama": lambda a: {"attention_bias": a.attention_bias, "mlp_bias": a.mlp_bias},
    "mistral": lambda a: {"sliding_window": a.sliding_windows[0]},
    "qwen2": _windows,
    "qwen3": lambda a: {**_windows(a), "attention_bias": a.attention_bias},
}


class TransformersModel:
    """A checkpoint's weights in the model class of its family, float32, eager attention."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = _config(checkpoint.architecture)
        self._model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
        state = {name: torch.from_numpy(values) for name, values in tiny_weights(checkpoint).items()}
        result = self._model.load_state_dict(state, strict=False)
        tied = {"lm_head.weight"} if checkpoint.architecture.tied_embeddings else set()
        assert not result.unexpected_keys
        assert set(result.missing_keys) == tied

    def logits(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """float32 ``[T, V]`` of one sequence."""
        with torch.no_grad():
            return self._model(torch.from_numpy(token_ids)[None]).logits[0].numpy()

    def greedy(self, prompt: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """``count`` greedy tokens after the prompt, each from a whole forward pass."""
        tokens = prompt
        for _ in range(count):
            tokens = np.append(tokens, self.logits(tokens)[-1].argmax())
        return tokens[len(prompt) :]


def _config(architecture: Architecture) -> Any:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": architecture.rope_theta}
    if architecture.rope_scaling is not None:
        scaling = architecture.rope_scaling
        rope |= {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind == "llama3":
            rope["low_freq_factor"] = scaling.low_freq_factor
            rope["high_freq_factor"] = scaling.high_freq_factor
            rope["original_max_position_embeddings"] = scaling.original_context_length
    return AutoConfig.for_model(
        architecture.family,
        vocab_size=architecture.vocab_size,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        num_key_value_heads=architecture.num_kv_heads,
        head_dim=architecture.head_dim,
        max_position_embeddings=architecture.context_length,
        rms_norm_eps=architecture.norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=architecture.tied_embeddings,
        **_OPTIONS[architecture.family](architecture),
    )
