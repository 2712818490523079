from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from tiny import FloatTensor, tiny_architecture, tiny_checkpoint, tiny_weights

from build_engine.errors import CheckpointError
from build_engine.families import FAMILIES
from build_engine.families.layout import Layout, Run
from build_engine.readers.inventory import select_tensors


@dataclass(frozen=True)
class FileTensor(FloatTensor):
    """A float32 weight of which parts can be taken."""

    def part(self, name: str, rows: tuple[Run, ...], offset: float) -> Self:
        parts = [self.values[start:stop] for start, stop in rows] or [self.values]
        return replace(self, name=name, values=np.concatenate(parts) + np.float32(offset))


PATH = Path("model.gguf")
ARCHITECTURE = tiny_architecture("llama")


def found(**changes: FileTensor | None) -> dict[str, FileTensor]:
    weights = tiny_weights(tiny_checkpoint("llama"))
    tensors: dict[str, FileTensor | None] = {name: FileTensor(name, values) for name, values in weights.items()}
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def tensor(*shape: int) -> FileTensor:
    return FileTensor("x", np.zeros(shape, np.float32))


def refused(tensors: dict[str, FileTensor]) -> str:
    with pytest.raises(CheckpointError) as caught:
        select_tensors(ARCHITECTURE, tensors, PATH)
    assert str(caught.value).startswith("model.gguf: tensor")
    return str(caught.value)


def test_a_complete_checkpoint_passes() -> None:
    assert next(iter(select_tensors(ARCHITECTURE, found(), PATH))) == "model.embed_tokens.weight"


def test_missing_tensors_are_named() -> None:
    assert "'lm_head.weight' missing" in refused(found(lm_head__weight=None))


def test_many_missing_tensors_are_counted() -> None:
    assert "and 16 more missing" in refused({"model.norm.weight": tensor(64)})


def test_unknown_tensors_are_an_error_and_not_ignored() -> None:
    assert "'model.layers.0.self_attn.q_norm.weight' unknown to family 'llama'" in refused(
        found(model__layers__0__self_attn__q_norm__weight=tensor(16))
    )


def test_wrong_shapes_are_named_with_the_right_one() -> None:
    assert "has shape [65]; the configuration says [64]" in refused(found(model__norm__weight=tensor(65)))


def test_buffers_and_a_stored_tied_head_are_left_out() -> None:
    tied = tiny_architecture("llama", tied_embeddings=True)
    tensors = found(model__layers__0__self_attn__rotary_emb__inv_freq=tensor(8))
    assert "lm_head.weight" in tensors
    selected = select_tensors(tied, tensors, PATH)
    assert not {"lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"} & set(selected)


def test_packed_projections_are_taken_apart_and_their_shape_is_checked_as_one() -> None:
    layout, architecture = FAMILIES["phi3"].huggingface, tiny_architecture("phi3")
    tensors = found()
    for layer in range(2):
        for block, packed, parts in (("self_attn", "qkv_proj", "qkv"), ("mlp", "gate_up_proj", ("gate", "up"))):
            prefix = f"model.layers.{layer}.{block}."
            rows = [tensors.pop(f"{prefix}{part}_proj.weight").values for part in parts]
            tensors[f"{prefix}{packed}.weight"] = FileTensor("x", np.concatenate(rows))
    selected = select_tensors(architecture, tensors, PATH, layout)
    for name, values in tiny_weights(tiny_checkpoint("llama")).items():
        assert selected[name].name == name
        np.testing.assert_array_equal(selected[name].values, values)
    name = "model.layers.1.self_attn.qkv_proj.weight"
    with pytest.raises(CheckpointError, match=rf"'{name}' has shape \[127, 64\]; the configuration says \[128, 64\]"):
        select_tensors(architecture, tensors | {name: tensor(127, 64)}, PATH, layout)
    del tensors[name]
    with pytest.raises(CheckpointError, match=f"'{name}' missing"):
        select_tensors(architecture, tensors, PATH, layout)


def test_norms_and_nothing_else_get_what_their_layout_leaves_out() -> None:
    selected = select_tensors(ARCHITECTURE, found(), PATH, Layout(norm_offset=1.0))
    for name, weight in found().items():
        expected = weight.values + np.float32(1.0) if "norm" in name else weight.values
        np.testing.assert_array_equal(selected[name].values, expected)
