from typing import Any

import pytest
from gguf_files import architecture_metadata
from tiny import tiny_architecture

from build_engine.errors import CheckpointError
from build_engine.families import architecture_from_gguf, expected_tensors, gguf_name_map
from build_engine.families.rope_factors import llama3_factors
from runtime.bundle.architecture import Architecture, RopeScaling


def metadata_of(architecture: Architecture, **changes: Any) -> dict[str, Any]:
    name = architecture.family
    values = {key: value for key, _, value in architecture_metadata(architecture, name)}
    return values | {f"{name}.{key.replace('__', '.')}": value for key, value in changes.items()}


def shapes_of(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    names = {hugging_face: gguf for gguf, hugging_face in gguf_name_map(architecture).items()}
    return {names[name]: shape for name, shape in expected_tensors(architecture).items()}


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_an_architecture_survives_the_way_through_gguf(family: str) -> None:
    architecture = tiny_architecture(family)
    assert architecture_from_gguf(metadata_of(architecture), shapes_of(architecture)) == architecture


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_every_expected_tensor_has_a_gguf_name(family: str) -> None:
    architecture = tiny_architecture(family, attention_bias=True, output_bias=True, mlp_bias=True)
    assert set(expected_tensors(architecture)) <= set(gguf_name_map(architecture).values())


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
    with pytest.raises(CheckpointError, match=r"'gemma2'; supported are llama, qwen2, qwen3"):
        architecture_from_gguf({"general.architecture": "gemma2"}, {})
