from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tiny import FloatTensor, tiny_architecture, tiny_checkpoint

from build_engine.errors import BuildError, CheckpointError
from build_engine.families import expected_tensors
from build_engine.passes import can_rotate, refusal, rotated
from runtime.bundle.architecture import ScoreHead


def test_norms_are_ones_and_the_head_is_its_own() -> None:
    checkpoint = tiny_checkpoint("qwen2")
    made = rotated(checkpoint)
    assert checkpoint.architecture.tied_embeddings
    assert not made.architecture.tied_embeddings
    assert set(made.tensors) == {*checkpoint.tensors, "lm_head.weight"}
    for name in ("model.norm.weight", "model.layers.1.post_attention_layernorm.weight"):
        np.testing.assert_array_equal(made.tensors[name].float32(), 1)


@pytest.mark.parametrize("encoding", ["f32", "q4_1"])
def test_tensors_have_the_names_shapes_and_type_that_the_architecture_asks_for(encoding: str) -> None:
    made = rotated(tiny_checkpoint("qwen3", encoding=encoding, attention_bias=True, output_bias=True))
    shapes = expected_tensors(made.architecture)
    assert {name: tensor.shape for name, tensor in made.tensors.items()} == shapes
    for name, tensor in made.tensors.items():
        values = tensor.float32()
        assert (values.shape, values.dtype, tensor.encoding) == (shapes[name], np.float32, "f32")
        with pytest.raises(CheckpointError, match="a rotated tensor has no blocks"):
            tensor.blocks()


def test_what_the_stream_does_not_touch_stays_as_it_was() -> None:
    checkpoint = tiny_checkpoint(
        "qwen3", attention_bias=True, mlp_bias=True, score_head=ScoreHead(hidden_size=8, bias=True)
    )
    made = rotated(checkpoint)
    layer = "model.layers.0"
    for name in (
        f"{layer}.self_attn.q_norm.weight",
        f"{layer}.self_attn.k_proj.bias",
        f"{layer}.mlp.up_proj.bias",
        "score.0.bias",
        "score.2.weight",
    ):
        np.testing.assert_array_equal(made.tensors[name].float32(), checkpoint.tensors[name].float32())


def test_a_model_is_rotated_the_same_way_each_time() -> None:
    first, second = (rotated(tiny_checkpoint()).tensors["lm_head.weight"].float32() for _ in range(2))
    np.testing.assert_array_equal(first, second)


@dataclass(frozen=True)
class CountedTensor(FloatTensor):
    reads: list[str] = field(default_factory=list)

    def float32(self) -> np.ndarray:
        self.reads.append(self.name)
        return super().float32()


def test_nothing_is_read_before_it_is_asked_for_nor_kept() -> None:
    checkpoint = tiny_checkpoint()
    reads: list[str] = []
    counted = {name: CountedTensor(name, tensor.float32(), reads=reads) for name, tensor in checkpoint.tensors.items()}
    made = rotated(replace(checkpoint, tensors=counted))
    assert reads == []
    for _ in range(2):
        made.tensors["model.layers.1.mlp.up_proj.weight"].float32()
    assert reads == ["model.layers.1.mlp.up_proj.weight", "model.layers.1.post_attention_layernorm.weight"] * 2


def test_outliers_of_the_stream_are_spread() -> None:
    checkpoint = tiny_checkpoint()
    table = checkpoint.tensors["model.embed_tokens.weight"].float32()
    table[:, 5] *= 50
    made = rotated(checkpoint).tensors["model.embed_tokens.weight"].float32()
    crest = [np.mean(np.abs(rows).max(axis=1) / np.sqrt(np.mean(rows**2, axis=1))) for rows in (table, made)]
    assert crest[0] > 6
    assert crest[1] < 3


def test_families_that_norm_what_joins_the_stream_are_refused() -> None:
    assert refusal(tiny_architecture()) == ""
    assert can_rotate(tiny_architecture())
    assert not can_rotate(tiny_architecture("gemma2"))
    with pytest.raises(BuildError, match="tiny-gemma2: cannot be rotated: gemma2 multiplies what joins the residual"):
        rotated(tiny_checkpoint("gemma2"))


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ({"hidden_size": 8194}, "the odd part of hidden size 8194 is above 4096"),
        ({"head_dim": 4099}, "the odd part of head size 4099 is above 4096"),
    ],
)
def test_widths_with_a_large_odd_part_are_refused(overrides: dict[str, int], why: str) -> None:
    assert refusal(tiny_architecture(**overrides)) == why
