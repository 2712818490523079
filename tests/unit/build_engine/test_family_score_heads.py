from typing import Any

import pytest
from family_configs import config, refused

from build_engine.families import FAMILIES, architecture_from_config
from runtime.bundle.architecture import ScoreHead

CLASSIFIERS = {
    "llama": "LlamaForSequenceClassification",
    "mistral": "MistralForSequenceClassification",
    "qwen2": "Qwen2ForSequenceClassification",
    "qwen3": "Qwen3ForSequenceClassification",
    "phi3": "Phi3ForSequenceClassification",
    "gemma2": "Gemma2ForSequenceClassification",
}
ONE = {"id2label": {"0": "LABEL_0"}}


def reward(model_type: str, name: str, **changes: Any) -> ScoreHead:
    head = architecture_from_config(config(model_type, architectures=[name], **changes)).score_head
    assert head is not None
    return head


def test_language_models_have_no_score_head() -> None:
    for model_type in FAMILIES:
        assert architecture_from_config(config(model_type)).score_head is None
        assert architecture_from_config(config(model_type, architectures=None)).score_head is None


@pytest.mark.parametrize("model_type", sorted(CLASSIFIERS))
def test_sequence_classifiers_with_one_label_have_a_linear_head(model_type: str) -> None:
    name = CLASSIFIERS[model_type]
    for labels in (ONE, {"num_labels": 1}, {}):
        assert reward(model_type, name, pad_token_id=7, **labels) == ScoreHead(pad_token_id=7)
    assert reward(model_type, name, pad_token_id=None) == ScoreHead()


def test_the_padding_token_that_is_not_named_is_the_one_of_the_class() -> None:
    from transformers import AutoConfig

    for model_type, name in CLASSIFIERS.items():
        theirs = AutoConfig.for_model(model_type).pad_token_id
        assert reward(model_type, name, vocab_size=50_000).pad_token_id == (-1 if theirs is None else theirs)


@pytest.mark.parametrize("token", [-1, 1000, 5000])
def test_padding_that_is_no_token_is_none(token: int) -> None:
    assert reward("llama", CLASSIFIERS["llama"], pad_token_id=token).pad_token_id == -1


def test_qwen2_reward_models_have_a_hidden_layer() -> None:
    expected = ScoreHead(hidden_size=64, bias=True, pad_token_id=5)
    assert reward("qwen2", "Qwen2ForRewardModel", pad_token_id=5) == expected
    assert reward("qwen2", "Qwen2ForRewardModel", pad_token_id=5, num_labels=2) == expected
    assert reward("qwen2", "MyQwen2RewardModel", pad_token_id=5) == expected


def test_internlm2_reward_models_name_the_token_that_they_are_read_at() -> None:
    assert reward("internlm2", "InternLM2ForRewardModel", reward_token_id=9) == ScoreHead(marker_token_id=9)
    for token in (None, -1, 1000, "9", True):
        changes = {"architectures": ["InternLM2ForRewardModel"], "reward_token_id": token}
        assert "reward_token_id is" in refused(config("internlm2", **changes))


def test_nothing_of_an_output_head_is_kept() -> None:
    architecture = architecture_from_config(config("gemma2", architectures=[CLASSIFIERS["gemma2"]]))
    assert (architecture.logits_softcap, architecture.tied_embeddings) == (0.0, False)
    assert architecture.attention_softcap == 50.0


@pytest.mark.parametrize(
    ("model_type", "changes", "said"),
    [
        ("llama", {"architectures": [CLASSIFIERS["llama"]], "num_labels": 2}, "2 labels (num_labels)"),
        (
            "llama",
            {"architectures": [CLASSIFIERS["llama"]], "id2label": {"0": "a", "1": "b", "2": "c"}},
            "3 labels (id2label)",
        ),
        ("llama", {"architectures": [CLASSIFIERS["llama"]], "pad_token_id": "x"}, "pad_token_id is 'x'"),
        (
            "qwen2",
            {"architectures": ["Qwen2ForProcessRewardModel"]},
            "Qwen2ForProcessRewardModel gives a score for each",
        ),
        (
            "qwen2",
            {"architectures": ["Qwen2ForQuestionAnswering"]},
            "Qwen2ForCausalLM to generate and Qwen2ForSequenceClassification, Qwen2ForRewardModel to score",
        ),
        (
            "internlm2",
            {"architectures": ["InternLM2ForSequenceClassification"]},
            "InternLM2ForCausalLM to generate and InternLM2ForRewardModel to score",
        ),
        ("llama", {"architectures": ["LlamaForRewardModel"]}, "LlamaForCausalLM to generate"),
    ],
)
def test_models_that_give_no_single_score_are_refused(model_type: str, changes: dict[str, Any], said: str) -> None:
    assert said in refused(config(model_type, **changes))
