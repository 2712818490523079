import math
from typing import Any

import pytest
from gguf_files import architecture_metadata
from tiny import tiny_architecture

from build_engine.errors import CheckpointError
from build_engine.families import FAMILIES, architecture_from_gguf
from build_engine.families.gguf_rope import SHORT_FACTORS
from build_engine.families.layout import stored_tensors
from build_engine.families.rope_factors import llama3_factors
from runtime.bundle.architecture import Architecture, RopeScaling


def metadata_of(architecture: Architecture, **changes: Any) -> dict[str, Any]:
    name = architecture.family
    values = {key: value for key, _, value in architecture_metadata(architecture, name)}
    return values | {f"{name}.{key.replace('__', '.')}": value for key, value in changes.items()}


def shapes_of(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    stored = stored_tensors(FAMILIES[architecture.family].gguf, architecture)
    return {name: tensor.shape for name, tensor in stored.items()}


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3", "internlm2"])
def test_an_architecture_survives_the_way_through_gguf(family: str) -> None:
    architecture = tiny_architecture(family)
    assert architecture_from_gguf(metadata_of(architecture), shapes_of(architecture)) == architecture


def test_gemma2_survives_the_way_through_gguf_but_for_its_query_scale() -> None:
    architecture = tiny_architecture("gemma2", attention_scale=24**-0.5)
    assert architecture_from_gguf(metadata_of(architecture), shapes_of(architecture)) == architecture


@pytest.mark.parametrize(("layers", "scalar"), [(2, 24), (42, 24), (46, 16)])
def test_gemma2_scales_queries_as_llama_cpp_does(layers: int, scalar: int) -> None:
    architecture = tiny_architecture("gemma2", num_layers=layers, sliding_windows=(5, 0) * (layers // 2))
    found = architecture_from_gguf(metadata_of(architecture), shapes_of(architecture))
    assert found.attention_scale == pytest.approx(scalar**-0.5)


def test_gemma2_files_that_say_nothing_have_the_defaults_of_llama_cpp() -> None:
    architecture = tiny_architecture("gemma2", attention_softcap=0.0, sliding_windows=())
    found = architecture_from_gguf(metadata_of(architecture), shapes_of(architecture))
    assert (found.attention_softcap, found.logits_softcap) == (50.0, 30.0)
    assert found.sliding_windows == (4096, 0)
    periodic = metadata_of(architecture, attention__sliding_window_pattern=1)
    assert architecture_from_gguf(periodic, shapes_of(architecture)).sliding_windows == (0, 0)


def test_a_window_of_zero_is_none() -> None:
    architecture = tiny_architecture("phi3")
    metadata = metadata_of(architecture, attention__sliding_window=0)
    assert architecture_from_gguf(metadata, shapes_of(architecture)) == architecture


@pytest.mark.parametrize("kind", [None, "none", "longrope"])
def test_longrope_is_recognised_by_its_tensors(kind: str | None) -> None:
    architecture = tiny_architecture("phi3", rope_dim=12)
    factors = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    changes: dict[str, Any] = {"rope__scaling__original_context_length": 64, "rope__scaling__attn_factor": 1.25}
    metadata = metadata_of(architecture, **changes) | {SHORT_FACTORS: factors}
    if kind is not None:
        metadata["phi3.rope.scaling.type"] = kind
    found = architecture_from_gguf(metadata, shapes_of(architecture))
    assert (found.context_length, found.rope_dim) == (64, 12)
    assert found.rope_scaling == RopeScaling(
        kind="longrope", factors=tuple(factors), attention_factor=1.25, original_context_length=64
    )
    del metadata["phi3.rope.scaling.attn_factor"]
    scaling = architecture_from_gguf(metadata, shapes_of(architecture)).rope_scaling
    assert scaling is not None
    assert scaling.attention_factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(64)))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({SHORT_FACTORS: [1.0] * 7}, "tensor 'rope_factors_short.weight' has to hold 8 positive numbers"),
        (
            {SHORT_FACTORS: [1.0] * 8, "phi3.rope.scaling.type": "yarn"},
            "'yarn' together with the tensor 'rope_factors_s",
        ),
        ({"rope_freqs.weight": [1.0] * 8, "phi3.rope.scaling.type": "linear"}, "together with the tensor 'rope_freqs"),
        ({"phi3.rope.scaling.type": "longrope"}, "rope scaling 'longrope' is not supported"),
    ],
)
def test_longrope_that_does_not_fit_is_refused(metadata: dict[str, Any], said: str) -> None:
    architecture = tiny_architecture("phi3")
    with pytest.raises(CheckpointError, match=said):
        architecture_from_gguf(metadata_of(architecture) | metadata, shapes_of(architecture))


@pytest.mark.parametrize(
    ("metadata", "tensors", "said"),
    [
        ({}, {"cls.output.weight": (1, 64)}, "no generation model .tensor 'cls.output.weight'.*Hugging Face directory"),
        ({"llama.pooling_type": 4}, {}, "no generation model .pooling_type 4."),
    ],
)
def test_classifiers_and_embedding_models_are_refused(
    metadata: dict[str, Any], tensors: dict[str, tuple[int, ...]], said: str
) -> None:
    architecture = tiny_architecture("llama")
    with pytest.raises(CheckpointError, match=said):
        architecture_from_gguf(metadata_of(architecture) | metadata, shapes_of(architecture) | tensors)


def test_biases_and_a_tied_head_are_read_off_the_tensors() -> None:
    architecture = tiny_architecture(
        "llama", attention_bias=True, output_bias=True, mlp_bias=True, tied_embeddings=True
    )
    assert architecture_from_gguf(metadata_of(architecture), shapes_of(architecture)) == architecture


def test_windows_and_linear_scaling_are_read() -> None:
    architecture = tiny_architecture("llama")
    shapes = shapes_of(architecture)
    windows = architecture_from_gguf(metadata_of(architecture, attention__sliding_window=64), shapes)
    assert windows.sliding_windows == (64, 64)
    linear = metadata_of(architecture, rope__scaling__type="linear", rope__scaling__factor=2.0)
    assert architecture_from_gguf(linear, shapes).rope_scaling == RopeScaling(kind="linear", factor=2.0)
    old = metadata_of(architecture, rope__scale_linear=4.0)
    assert architecture_from_gguf(old, shapes).rope_scaling == RopeScaling(kind="linear", factor=4.0)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_scaling_is_recognised_from_its_frequency_divisors(factor: float) -> None:
    architecture = tiny_architecture("llama", head_dim=64, rope_theta=500000.0)
    scaling = RopeScaling(kind="llama3", factor=factor)
    factors = llama3_factors(scaling, 500000.0, 64)
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(factor)
    metadata = metadata_of(architecture) | {"rope_freqs.weight": factors}
    assert architecture_from_gguf(metadata, shapes_of(architecture)).rope_scaling == scaling


@pytest.mark.parametrize("factors", [[1.0] * 7, [], [1.0, 1.1, 1.2, 1.4, 2.0, 3.0, 4.0, 5.0], [float("nan")] * 8])
def test_other_frequency_divisors_are_refused(factors: list[float]) -> None:
    architecture = tiny_architecture("llama")
    metadata = metadata_of(architecture) | {"rope_freqs.weight": factors}
    with pytest.raises(CheckpointError, match=r"rope_freqs\.weight"):
        architecture_from_gguf(metadata, shapes_of(architecture))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope__scaling__type": "yarn"}, "rope scaling 'yarn'"),
        ({"attention__value_length": 8}, "value heads of 8"),
        ({"block_count": 0}, r"llama\.block_count is 0"),
        ({"attention__head_count": [4, 4]}, r"llama\.attention\.head_count is \[4, 4\]"),
    ],
)
def test_unusable_metadata_is_refused_by_key(changes: dict[str, Any], said: str) -> None:
    architecture = tiny_architecture("llama")
    with pytest.raises(CheckpointError, match=said):
        architecture_from_gguf(metadata_of(architecture, **changes), shapes_of(architecture))


def test_other_architectures_are_refused_with_those_that_are_supported() -> None:
    with pytest.raises(CheckpointError, match=r"'gemma3'; supported are llama, qwen2, qwen3, phi3, gemma2, internlm2"):
        architecture_from_gguf({"general.architecture": "gemma3"}, {})
