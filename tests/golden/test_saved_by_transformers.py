"""Directories that transformers itself saved, read and computed without it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paged import forward, reference_step
from tiny import VOCAB_SIZE, byte_tokenizer_json

from build_engine.sources import open_checkpoint

pytestmark = pytest.mark.parity

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
FACTORS = [1.0 + 0.5 * pair for pair in range(6)]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"attention_bias": True, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "mistral": ("mistral", {"sliding_window": 5}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {}),
    "gemma2": ("gemma2", {"head_dim": 16, "query_pre_attn_scalar": 40, "sliding_window": 6}),
    "gemma2-uncapped": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "phi3": ("phi3", {"sliding_window": 7}),
    "phi3-longrope": (
        "phi3",
        {
            "original_max_position_embeddings": 32,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 500.0,
                "partial_rotary_factor": 0.75,
                "short_factor": FACTORS,
                "long_factor": [8 * factor for factor in FACTORS],
            },
        },
    ),
}
PROMPT = list(range(4, 28))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))


def save(folder: Path, case: str, kind: str, **changes: Any) -> Any:
    """A random model in ``folder``, and itself."""
    torch = pytest.importorskip("torch")
    import transformers

    model_type, options = CASES[case]
    config = transformers.AutoConfig.for_model(model_type, **(SHAPE | options | changes))
    torch.manual_seed(3)
    model = getattr(transformers, kind).from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith(".bias"):
                weight += 0.3 * torch.randn_like(weight)
            else:
                weight *= 8.0
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(byte_tokenizer_json())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return model


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_model_that_was_saved(tmp_path: Path, case: str) -> None:
    model = save(tmp_path, case, "AutoModelForCausalLM")
    import torch

    with torch.no_grad():
        expected = model(torch.tensor([PROMPT])).logits[0].numpy()
    assert expected.std() > 0.1
    logits = forward(reference_step(open_checkpoint(tmp_path)), PROMPT)
    np.testing.assert_allclose(logits, expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_classifier_that_was_saved(tmp_path: Path, case: str) -> None:
    model = save(tmp_path, case, "AutoModelForSequenceClassification", num_labels=1, pad_token_id=2)
    import torch

    with torch.no_grad():
        expected = model(torch.tensor([[*PROMPT, 2, 2]])).logits[0, 0].item()
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.architecture.score_head is not None
    assert checkpoint.architecture.score_head.pad_token_id == 2
    scores = forward(reference_step(checkpoint), PROMPT)
    assert scores.reshape(-1)[-1] == pytest.approx(expected, rel=2e-4, abs=2e-4)
