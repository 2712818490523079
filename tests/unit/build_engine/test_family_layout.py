import pytest
from tiny import tiny_architecture

from build_engine.families import FAMILIES, expected_tensors
from build_engine.families.layout import Layout, Packed, Part, stored_tensors
from runtime.bundle.architecture import ScoreHead


@pytest.mark.parametrize("form", ["huggingface", "gguf"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_canonical_tensor_is_stored_once_and_every_stored_row_used_once(family: str, form: str) -> None:
    architecture = tiny_architecture(family, attention_bias=True, output_bias=True)
    stored = stored_tensors(getattr(FAMILIES[family], form), architecture)
    parts = [part for tensor in stored.values() for part in tensor.parts]
    shapes = expected_tensors(architecture)
    assert sorted(part.name for part in parts) == sorted(shapes)
    for tensor in stored.values():
        rows = [row for part in tensor.parts for run in part.rows for row in range(*run)]
        assert sorted(rows) == (list(range(tensor.shape[0])) if len(tensor.parts) > 1 else [])
        for part in tensor.parts:
            held = sum(stop - start for start, stop in part.rows) or tensor.shape[0]
            assert (held, *tensor.shape[1:]) == shapes[part.name]


def test_tensors_that_lie_alone_keep_their_canonical_names_unless_told_otherwise() -> None:
    architecture = tiny_architecture("llama")
    assert list(stored_tensors(Layout(), architecture)) == list(expected_tensors(architecture))


def test_packed_parts_lie_one_after_the_other() -> None:
    stored = stored_tensors(FAMILIES["phi3"].huggingface, tiny_architecture("phi3"))
    tensor = stored["model.layers.1.self_attn.qkv_proj.weight"]
    assert tensor.shape == (128, 64)
    prefix = "model.layers.1.self_attn."
    assert tensor.parts == (
        Part(f"{prefix}q_proj.weight", ((0, 64),)),
        Part(f"{prefix}k_proj.weight", ((64, 96),)),
        Part(f"{prefix}v_proj.weight", ((96, 128),)),
    )


def test_parts_packed_by_key_value_head_alternate() -> None:
    layout = Layout(packed=(Packed("qkv", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), True),))
    tensor = stored_tensors(layout, tiny_architecture("internlm2"))["model.layers.0.qkv.weight"]
    assert [part.rows for part in tensor.parts] == [((0, 32), (64, 96)), ((32, 48), (96, 112)), ((48, 64), (112, 128))]


def test_score_heads_are_stored_under_the_names_of_their_classes() -> None:
    for family, name in (("llama", "score.weight"), ("internlm2", "v_head.weight")):
        architecture = tiny_architecture(family, score_head=ScoreHead())
        assert stored_tensors(FAMILIES[family].huggingface, architecture)[name].parts == (Part("score.weight"),)
    hidden = tiny_architecture("qwen2", score_head=ScoreHead(hidden_size=64, bias=True))
    stored = stored_tensors(FAMILIES["qwen2"].huggingface, hidden)
    assert {name for name in stored if "score" in name} == {
        "score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias",
    }  # fmt: skip
