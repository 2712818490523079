from pathlib import Path

import numpy as np
import pytest
from tiny import FloatTensor, tiny_architecture, tiny_checkpoint

from build_engine.errors import CheckpointError
from build_engine.readers.inventory import select_tensors

PATH = Path("model.gguf")
ARCHITECTURE = tiny_architecture("llama")


def found(**changes: FloatTensor | None) -> dict[str, FloatTensor]:
    tensors = dict(tiny_checkpoint("llama").tensors) | {name.replace("__", "."): t for name, t in changes.items()}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def tensor(*shape: int) -> FloatTensor:
    return FloatTensor("x", np.zeros(shape, np.float32))


def refused(tensors: dict[str, FloatTensor]) -> str:
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
