"""Score heads of reward models, as their classes read them from ``config.json``.

Whether the tensors are as the class says is for the reader to check.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.fields import Fields
from runtime.bundle.architecture import ScoreHead


def sequence_classifier(config: Mapping[str, Any], default_pad: int = -1) -> ScoreHead:
    """The head of transformers' ``*ForSequenceClassification``: one linear layer without a bias.

    Args:
        config: Parsed ``config.json``.
        default_pad: The configuration class's ``pad_token_id``.

    Raises:
        CheckpointError: There are several labels.
    """
    _check_labels(config)
    return ScoreHead(pad_token_id=_pad_token(config, default_pad))


def two_layers(config: Mapping[str, Any]) -> ScoreHead:
    """The head of ``Qwen2ForRewardModel`` (Qwen2.5-Math-RM): hidden layer, ReLU, output, both with biases."""
    # NOTE: the class fixes the number of labels at one, whatever the configuration says.
    return ScoreHead(
        hidden_size=Fields(config).dimension("hidden_size"), bias=True, pad_token_id=_pad_token(config, -1)
    )


def marked(config: Mapping[str, Any]) -> ScoreHead:
    """The head of ``InternLM2ForRewardModel``: one linear layer, read at a token that is put after the chat."""
    token = config.get("reward_token_id")
    vocab_size = Fields(config).dimension("vocab_size")
    if type(token) is not int or not 0 <= token < vocab_size:
        raise CheckpointError(
            f"reward_token_id is {reprlib.repr(token)}; a reward model needs one of its {vocab_size} tokens there"
        )
    return ScoreHead(marker_token_id=token)


def _check_labels(config: Mapping[str, Any]) -> None:
    # NOTE: transformers leaves both keys out for two labels. A directory without them may still have one: its tensor
    # tells.
    names = Fields(config).table("id2label")
    labels = len(names) if names else Fields(config).dimension("num_labels", 1)
    if labels != 1:
        raise CheckpointError(
            f"the model has {labels} labels ({'id2label' if names else 'num_labels'}); only classifiers with one label "
            "give a score"
        )


def _pad_token(config: Mapping[str, Any], default: int) -> int:
    token = config.get("pad_token_id", default)
    if token is None:
        return -1
    if type(token) is not int:
        raise CheckpointError(f"pad_token_id is {reprlib.repr(token)}; it has to be an integer")
    # NOTE: an id that is no token never occurs in a text.
    return token if 0 <= token < Fields(config).dimension("vocab_size") else -1
