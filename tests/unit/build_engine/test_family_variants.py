"""What Phi-3, Gemma 2 and InternLM 2 have that Llama has not."""

import math
from typing import Any

import pytest
from family_configs import config, refused

from build_engine.families import architecture_from_config
from runtime.bundle.architecture import Architecture, RopeScaling

FACTORS = [1.0 + 0.25 * pair for pair in range(8)]


def read(model_type: str, **changes: Any) -> Architecture:
    return architecture_from_config(config(model_type, **changes))


def test_phi3_windows_are_off_unless_there_is_one() -> None:
    assert read("phi3").sliding_windows == ()
    assert read("phi3", sliding_window=None).sliding_windows == ()
    assert read("phi3", sliding_window=7).sliding_windows == (7,) * 4


@pytest.mark.parametrize("where", ["beside", "in the table"])
def test_phi3_rotates_a_part_of_each_head(where: str) -> None:
    share = {"partial_rotary_factor": 0.75}
    changes = share if where == "beside" else {"rope_parameters": {"rope_type": "default", **share}}
    assert (read("phi3", **changes).rope_dim, read("phi3", **changes).rotary_dim) == (12, 12)
    assert read("phi3", partial_rotary_factor=1.0).rope_dim == 0
    assert "partial_rotary_factor is 1.5" in refused(config("phi3", partial_rotary_factor=1.5))
    for model_type in ("llama", "gemma2", "internlm2"):
        assert "partial_rotary_factor is 0.75" in refused(config(model_type, **share))


@pytest.mark.parametrize("kind", ["longrope", "su"])
def test_longrope_serves_the_short_factors_up_to_the_original_context(kind: str) -> None:
    table = {"type": kind, "short_factor": FACTORS, "long_factor": [8.0] * 8}
    architecture = read("phi3", rope_scaling=table, original_max_position_embeddings=128, max_position_embeddings=512)
    assert architecture.context_length == 128
    assert architecture.rope_scaling == RopeScaling(
        kind="longrope",
        factors=tuple(FACTORS),
        attention_factor=math.sqrt(1 + math.log(4) / math.log(128)),
        original_context_length=128,
    )


def test_longrope_is_as_transformers_computes_it() -> None:
    from transformers import Phi3Config

    table = {"rope_type": "longrope", "short_factor": FACTORS, "long_factor": [8.0] * 8}
    for changes in (
        {"original_max_position_embeddings": 128},
        {},
        {"rope_scaling": table | {"factor": 3.0}},
        {"rope_scaling": table | {"attention_factor": 1.25}},
        {"rope_scaling": table | {"original_max_position_embeddings": 256}},
    ):
        values = config("phi3") | {"rope_scaling": dict(table), "max_position_embeddings": 8192} | changes
        theirs = Phi3Config.from_dict(dict(values)).rope_parameters
        original = theirs["original_max_position_embeddings"]
        stretch = theirs.get("factor") or 8192 / original
        expected = theirs.get("attention_factor") or math.sqrt(1 + math.log(stretch) / math.log(original))
        architecture = architecture_from_config(values)
        assert architecture.rope_scaling is not None
        assert architecture.rope_scaling.attention_factor == pytest.approx(expected, rel=1e-12)
        assert architecture.context_length == original


def test_a_context_that_was_not_extended_has_no_attention_factor() -> None:
    table = {"type": "longrope", "short_factor": FACTORS}
    scaling = read("phi3", rope_scaling=table, original_max_position_embeddings=1024).rope_scaling
    assert scaling is not None
    assert scaling.attention_factor == 1.0
    assert read("phi3", rope_scaling=table, original_max_position_embeddings=1024).context_length == 512


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        (None, "short_factor has to hold 8 positive numbers"),
        (FACTORS[1:], "short_factor has to hold 8 positive numbers"),
        ([0.0] * 8, "short_factor has to hold 8 positive numbers"),
        (["1"] * 8, "a list of numbers"),
        ([10**400] * 8, "a list of numbers"),
        (5, "a list of numbers"),
    ],
)
def test_factors_that_do_not_fit_are_refused(factors: Any, said: str) -> None:
    assert said in refused(config("phi3", rope_scaling={"type": "longrope", "short_factor": factors}))


def test_phi3_factors_of_another_kind_are_refused() -> None:
    assert "rope scaling 'yarn'" in refused(config("phi3", rope_scaling={"type": "yarn", "short_factor": FACTORS}))


@pytest.mark.parametrize("model_type", ["internlm2", "llama", "qwen2"])
def test_dynamic_scaling_changes_nothing_within_the_context(model_type: str) -> None:
    architecture = read(model_type, rope_scaling={"type": "dynamic", "factor": 2.0})
    assert (architecture.rope_scaling, architecture.context_length) == (None, 512)


def test_gemma2_has_its_own_defaults() -> None:
    architecture = architecture_from_config(
        {key: value for key, value in config("gemma2").items() if key not in ("num_key_value_heads", "rms_norm_eps")}
    )
    assert (architecture.num_kv_heads, architecture.head_dim, architecture.norm_eps) == (4, 256, 1e-6)
    assert (architecture.tied_embeddings, architecture.activation) == (True, "gelu_tanh")
    assert (architecture.attention_softcap, architecture.logits_softcap) == (50.0, 30.0)
    assert (architecture.embedding_scale, architecture.output_norms) == (8.0, True)
    assert architecture.scale == 256**-0.5
    assert architecture.sliding_windows == (4096, 0, 4096, 0)


def test_gemma2_reads_what_is_there() -> None:
    architecture = read(
        "gemma2",
        query_pre_attn_scalar=144,
        attn_logit_softcapping=None,
        final_logit_softcapping=7.5,
        sliding_window=8,
        layer_types=["full_attention", "sliding_attention"] * 2,
        tie_word_embeddings=False,
    )
    assert architecture.attention_scale == 1 / 12
    assert (architecture.attention_softcap, architecture.logits_softcap) == (0.0, 7.5)
    assert architecture.sliding_windows == (0, 8, 0, 8)
    assert not architecture.tied_embeddings
    assert read("gemma2", sliding_window=None).sliding_windows == ()


def test_gemma2_activations_have_a_key_of_their_own() -> None:
    assert read("gemma2", hidden_act="silu").activation == "gelu_tanh"
    assert read("gemma2", hidden_act="silu", hidden_activation=None).activation == "gelu_tanh"
    assert read("gemma2", hidden_activation="silu").activation == "silu"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_activation": "gelu"}, "hidden_activation 'gelu' is not supported"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
        ({"attn_logit_softcapping": 0.0}, "attn_logit_softcapping is 0.0"),
        ({"layer_types": ["full_attention"]}, "layer_types has to name 4 layers"),
    ],
)
def test_gemma2_settings_that_cannot_be_used_are_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refused(config("gemma2", **changes))


def test_internlm2_defaults_are_those_of_its_published_class() -> None:
    values = {
        key: value for key, value in config("internlm2").items() if key not in ("num_key_value_heads", "rms_norm_eps")
    }
    architecture = architecture_from_config(values)
    assert (architecture.num_kv_heads, architecture.norm_eps, architecture.activation) == (4, 1e-6, "silu")
    assert not architecture.tied_embeddings
