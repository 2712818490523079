from typing import Any

import pytest
from family_configs import config, refused

from build_engine.families import FAMILIES, architecture_from_config
from runtime.bundle.architecture import RopeScaling

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_dimensions_are_taken_over() -> None:
    architecture = architecture_from_config(config())
    assert (architecture.family, architecture.vocab_size, architecture.hidden_size) == ("llama", 1000, 64)
    assert (architecture.num_layers, architecture.num_heads, architecture.num_kv_heads) == (4, 4, 2)
    assert (architecture.head_dim, architecture.context_length, architecture.norm_eps) == (16, 512, 1e-5)
    assert (architecture.rope_theta, architecture.rope_dim, architecture.rope_scaling) == (10000.0, 0, None)
    assert not architecture.tied_embeddings


def test_absent_optional_keys_have_the_defaults_of_transformers() -> None:
    llama = {key: value for key, value in config().items() if key not in ("num_key_value_heads", "rms_norm_eps")}
    assert architecture_from_config(llama).num_kv_heads == 4
    assert architecture_from_config(llama).norm_eps == 1e-6
    mistral = config("mistral", num_attention_heads=16)
    del mistral["num_key_value_heads"]
    assert architecture_from_config(mistral).num_kv_heads == 8
    assert architecture_from_config(config("qwen3")).head_dim == 128


def test_biases_are_where_each_family_has_them() -> None:
    def biases(model_type: str, **changes: Any) -> tuple[bool, bool, bool]:
        architecture = architecture_from_config(config(model_type, **changes))
        return architecture.attention_bias, architecture.output_bias, architecture.mlp_bias

    assert biases("llama") == (False, False, False)
    assert biases("llama", attention_bias=True, mlp_bias=True) == (True, True, True)
    assert biases("mistral", attention_bias=True) == (False, False, False)
    assert biases("qwen2") == (True, False, False)
    assert biases("qwen3", attention_bias=True) == (True, True, False)
    assert biases("phi3", attention_bias=True) == (False, False, False)
    assert biases("gemma2") == (False, False, False)
    assert biases("gemma2", attention_bias=True) == (True, True, False)
    assert biases("internlm2") == (True, True, False)
    assert biases("internlm2", bias=False) == (False, False, False)


def test_only_qwen3_normalises_heads() -> None:
    assert [name for name in FAMILIES if architecture_from_config(config(name)).qk_norm] == ["qwen3"]


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({}, (4096,) * 4),
        ({"sliding_window": None}, ()),
        ({"sliding_window": 32}, (32,) * 4),
    ],
)
def test_mistral_windows(changes: dict[str, Any], windows: tuple[int, ...]) -> None:
    assert architecture_from_config(config("mistral", **changes)).sliding_windows == windows


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 32}, ()),
        ({"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 3}, (0, 0, 0, 32)),
        ({"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 28}, (0, 0, 0, 0)),
        ({"use_sliding_window": True, "sliding_window": None}, ()),
        (
            {
                "use_sliding_window": True,
                "sliding_window": 8,
                "layer_types": ["full_attention", "sliding_attention"] * 2,
            },
            (0, 8, 0, 8),
        ),
    ],
)
def test_qwen_windows(model_type: str, changes: dict[str, Any], windows: tuple[int, ...]) -> None:
    assert architecture_from_config(config(model_type, **changes)).sliding_windows == windows


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": 5e5, "rope_scaling": LLAMA3},
        {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}},
    ],
)
def test_both_layouts_of_rotary_settings_are_read(changes: dict[str, Any]) -> None:
    architecture = architecture_from_config(config(**changes))
    assert architecture.rope_theta == 5e5
    assert architecture.rope_scaling == RopeScaling(
        kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8192
    )


def test_old_linear_scaling_is_read_and_counts_before_the_new_layout_as_in_transformers() -> None:
    linear = {"type": "linear", "factor": 4.0}
    new = {"rope_type": "default", "rope_theta": 77.0}
    for changes in ({"rope_scaling": linear}, {"rope_scaling": linear, "rope_parameters": new}):
        architecture = architecture_from_config(config(**changes))
        assert architecture.rope_scaling == RopeScaling(kind="linear", factor=4.0)
        assert architecture.rope_theta == 10000.0
    assert architecture_from_config(config(rope_scaling={}, rope_parameters=new)).rope_theta == 77.0


@pytest.mark.parametrize(("changes", "context"), [({}, 512), ({"original_max_position_embeddings": 64}, 64)])
def test_the_original_context_of_llama3_scaling_is_where_transformers_finds_it(
    changes: dict[str, Any], context: int
) -> None:
    table = {key: value for key, value in LLAMA3.items() if key != "original_max_position_embeddings"}
    scaling = architecture_from_config(config(rope_scaling=table, **changes)).rope_scaling
    assert scaling is not None
    assert scaling.original_context_length == context


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt2"}, "llama, mistral, qwen2, qwen3, phi3, gemma2, internlm2"),
        ({"architectures": ["LlamaForTokenClassification"]}, "LlamaForCausalLM to generate and LlamaForSequence"),
        ({"architectures": ["LlamaModel", "LlamaForCausalLM"]}, "architectures is ['LlamaModel']"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"hidden_size": -64}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"num_hidden_layers": 1 << 40}, "num_hidden_layers"),
        ({"num_hidden_layers": 5000}, "num_hidden_layers is 5000"),
        ({"hidden_size": "x" * 10_000}, "hidden_size is 'xxx"),
        ({"architectures": [["LlamaForCausalLM"]]}, "architectures is [['Llama"),
        ({"architectures": "LlamaForSequenceClassification"}, "has to be a list of class names"),
        ({"model_type": ["llama"]}, "model_type is ['llama']"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps"),
        ({"head_dim": 8192}, "4 heads of 8192"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "low_freq_factor 4.0"),
        ({"rope_parameters": {"full_attention": LLAMA3}}, "differ from layer to layer"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"num_key_value_heads": 3}, "4 query heads"),
        ({"head_dim": 15}, "even"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope scaling 'yarn'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"partial_rotary_factor": 1e308}, "partial_rotary_factor"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"is_causal": False}, "is_causal is false: the model is an encoder"),
    ],
)
def test_unusable_values_are_refused_by_name(changes: dict[str, Any], said: str) -> None:
    message = refused(config() | changes)
    assert said in message
    assert len(message) < 230


@pytest.mark.parametrize("kinds", [["full_attention"], ["full_attention"] * 3 + ["chunked_attention"]])
def test_layer_types_have_to_fit_the_layers(kinds: list[str]) -> None:
    values = config("qwen2", use_sliding_window=True, sliding_window=8, layer_types=kinds)
    assert "layer_types has to name 4 layers" in refused(values)
