"""The same tiny models in the code they were published with, transformers' where it has them; needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from internlm2_model import InternLM2Model
from published_weights import published_weights
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers_config import transformers_config

from build_engine.checkpoint import Checkpoint

Floats = npt.NDArray[np.float32]


class PublishedModel:
    """A checkpoint's weights in the model class of its family, float32, eager attention."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        architecture = checkpoint.architecture
        state = {name: torch.from_numpy(values) for name, values in published_weights(checkpoint).items()}
        if architecture.family == "internlm2":
            self._forward = _internlm2(checkpoint, state)
        elif architecture.score_head is None:
            tied = {"lm_head.weight"} if architecture.tied_embeddings else set()
            model = _loaded(AutoModelForCausalLM, checkpoint, state, tied)
            self._forward = lambda ids: model(ids[None]).logits[0]
        elif architecture.score_head.hidden_size:
            self._forward = _qwen2_reward(checkpoint, state)
        else:
            classifier = _loaded(AutoModelForSequenceClassification, checkpoint, state, set())
            self._forward = lambda ids: torch.cat([classifier(ids[None, :n]).logits for n in range(1, len(ids) + 1)])

    def logits(self, token_ids: npt.NDArray[np.int64]) -> Floats:
        """float32 ``[T, V]`` of one sequence."""
        with torch.no_grad():
            return self._forward(torch.from_numpy(token_ids)).numpy()

    def scores(self, token_ids: npt.NDArray[np.int64]) -> Floats:
        """float32 ``[T]`` of one sequence: the score of each of its beginnings."""
        column = self.logits(token_ids)
        assert column.shape == (len(token_ids), 1)
        return column[:, 0]

    def greedy(self, prompt: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """``count`` greedy tokens after the prompt, each from a whole forward pass."""
        tokens = prompt
        for _ in range(count):
            tokens = np.append(tokens, self.logits(tokens)[-1].argmax())
        return tokens[len(prompt) :]


def _loaded(kind: Any, checkpoint: Checkpoint, state: dict[str, torch.Tensor], missing: set[str]) -> Any:
    """A model of transformers with exactly these weights."""
    config = transformers_config(checkpoint.architecture)
    model = kind.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert set(result.missing_keys) == missing
    return model


def _qwen2_reward(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> Any:
    """Qwen2ForRewardModel: the body of Qwen2 and ``score``, a sequence of linear layer, ReLU, linear layer."""
    architecture = checkpoint.architecture
    body = {name.removeprefix("model."): values for name, values in state.items() if name.startswith("model.")}
    model = _loaded(AutoModel, checkpoint, body, set())
    width = architecture.score_head.hidden_size
    score = nn.Sequential(nn.Linear(architecture.hidden_size, width), nn.ReLU(), nn.Linear(width, 1))
    score.load_state_dict({n.removeprefix("score."): v for n, v in state.items() if n.startswith("score.")})
    return lambda ids: score(model(ids[None]).last_hidden_state[0])


def _internlm2(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> Any:
    head = state["output.weight" if checkpoint.architecture.score_head is None else "v_head.weight"]
    model = InternLM2Model(checkpoint.architecture, state)
    return lambda ids: model.hidden_states(ids) @ head.T
