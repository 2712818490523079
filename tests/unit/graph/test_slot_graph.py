from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from slot_engine import compile_slots, slot_options
from tiny import tiny_checkpoint

from build_engine.checkpoint import Checkpoint
from build_engine.errors import BuildError
from build_engine.targets.slots import slot_models
from runtime.bundle.architecture import ScoreHead


def _compile(checkpoint: Checkpoint, directory: Path, **options: object) -> onnx.ModelProto:
    compile_slots(checkpoint, directory, **options)
    return onnx.load(directory / "model.onnx", load_external_data=False)


def _nodes(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == operator]


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def test_inputs_and_outputs_are_those_of_slots(tmp_path: Path) -> None:
    model = _compile(tiny_checkpoint(), tmp_path, sequence=100)
    caches = ["k_cache_0", "v_cache_0", "k_cache_1", "v_cache_1"]
    assert [value.name for value in model.graph.input] == ["token_ids", "write_indices", "logits_rows", *caches]
    assert [value.name for value in model.graph.output] == ["logits", *(f"{cache}_out" for cache in caches)]
    assert _shape(model.graph.input[0]) == ["batch", "tokens"]
    assert _shape(model.graph.input[-1]) == ["batch", 2, 128, 16]


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_it_is_a_valid_model_of_standard_operators(tmp_path: Path, family: str) -> None:
    model = _compile(tiny_checkpoint(family), tmp_path)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 24)]
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)


@pytest.mark.parametrize(("sequence", "columns"), [(1, 64), (63, 64), (64, 128), (2048, 2112)])
def test_a_slot_has_a_column_beyond_its_longest_sequence(sequence: int, columns: int) -> None:
    options = slot_options(sequence=sequence)
    assert options.kv("float16").block_size == columns > sequence
    assert options.limits()["context_length"] == sequence


def test_each_width_of_window_has_one_mask(tmp_path: Path) -> None:
    model = _compile(tiny_checkpoint(num_layers=4, sliding_windows=(5, 0, 5, 7)), tmp_path)
    assert [node.input[3] for node in _nodes(model, "Attention")] == ["mask.5", "mask", "mask.5", "mask.7"]
    assert len(_nodes(model, "And")) == 2


def test_soft_capped_attention_is_spelled_out(tmp_path: Path) -> None:
    model = _compile(tiny_checkpoint("gemma2"), tmp_path)
    assert not _nodes(model, "Attention")
    assert len(_nodes(model, "Softmax")) == 2
    assert all(node.input[0] == "mask.5" or node.input[0] == "mask" for node in _nodes(model, "Where"))


@pytest.mark.parametrize(("rope_dim", "attribute"), [(0, 0), (8, 8), (16, 0)])
def test_rotation_is_partial_only_where_it_is(tmp_path: Path, rope_dim: int, attribute: int) -> None:
    model = _compile(tiny_checkpoint(rope_dim=rope_dim), tmp_path)
    found = {_attributes(node).get("rotary_embedding_dim", 0) for node in _nodes(model, "RotaryEmbedding")}
    assert found == {attribute}


def test_everything_after_the_last_attention_runs_on_wanted_rows_only(tmp_path: Path) -> None:
    model = _compile(tiny_checkpoint(), tmp_path)
    assert [node.output[0] for node in _nodes(model, "Gather") if "logits_rows" in node.input] == [
        "wanted.mixed",
        "wanted.residual",
    ]


@pytest.mark.parametrize(("element", "code"), [("float16", onnx.TensorProto.FLOAT16), ("bfloat16", 16)])
def test_an_engine_computes_in_one_type_and_answers_in_float32(tmp_path: Path, element: str, code: int) -> None:
    precision = {"float16": "fp16", "bfloat16": "bf16"}[element]
    options = slot_options(precision=precision, element=element)
    (model,), label = slot_models(tiny_checkpoint("gemma2"), tmp_path, options, [element], lambda *_: None)
    assert label == precision
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert types["logits"] == onnx.TensorProto.FLOAT
    assert types["k_cache_0"] == types["v_cache_1_out"] == code
    floats = {tensor.data_type for tensor in model.graph.initializer if "softcap" not in tensor.name}
    assert floats == {code, onnx.TensorProto.INT64}
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph.value_info
    between = {value.name: value.type.tensor_type.elem_type for value in inferred}
    assert {between[name] for name in between if name.endswith("weight.in")} == {code}


def test_graphs_of_several_types_share_the_weights(tmp_path: Path) -> None:
    options = slot_options(precision="int8", element="float16")
    models, _ = slot_models(tiny_checkpoint(), tmp_path, options, ["float16", "float32"], lambda *_: None)
    places = [
        {
            tensor.name: tensor.external_data[1].value
            for tensor in model.graph.initializer
            if tensor.external_data and not tensor.name.startswith("rotary")
        }
        for model in models
    ]
    assert places[0] == places[1]
    casts = [Counter(node.op_type for node in model.graph.node)["Cast"] for model in models]
    assert casts == [1, 10]  # logits; or the scales of eight matrices, embedding and head


@pytest.mark.parametrize(
    ("encoding", "precision", "label", "dtype"),
    [
        ("f32", "int8", "q8-g32", onnx.TensorProto.INT8),
        ("f32", "int4", "q4-g32", onnx.TensorProto.INT4),
        ("q4_0", "import", "q4-g32", onnx.TensorProto.INT4),
        ("q4_1", "import", "q8-g32", onnx.TensorProto.INT8),
        ("q8_0", "import", "q8-g32", onnx.TensorProto.INT8),
    ],
)
def test_quantised_layers_are_dequantised_in_groups(
    tmp_path: Path, encoding: str, precision: str, label: str, dtype: int
) -> None:
    checkpoint = tiny_checkpoint(encoding=encoding)
    assert compile_slots(checkpoint, tmp_path, precision=precision, element="float16").precision == label
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    nodes = _nodes(model, "DequantizeLinear")
    assert len(nodes) == 4 * 2
    assert {(stored[node.input[0]], _attributes(node)["block_size"], _attributes(node)["axis"]) for node in nodes} == {
        (dtype, 32, 1)
    }
    assert stored["model.embed_tokens.weight"] == stored["lm_head.weight"] == onnx.TensorProto.FLOAT16


def test_columns_that_do_not_fit_the_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"self_attn.q_proj.weight: 72 columns are not a multiple of 32"):
        compile_slots(tiny_checkpoint(hidden_size=72), tmp_path, precision="int8")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_tied_head_reads_the_bytes_of_the_embedding(tmp_path: Path, precision: str) -> None:
    sizes = []
    for tied in (True, False):
        compile_slots(tiny_checkpoint(tied_embeddings=tied), tmp_path, precision=precision)
        sizes.append((tmp_path / "weights.bin").stat().st_size)
    assert sizes[1] - sizes[0] >= 260 * 64 * 4


@pytest.mark.parametrize("head", [ScoreHead(), ScoreHead(hidden_size=24, bias=True)], ids=["linear", "layers"])
def test_scores_are_computed_in_float32_whatever_the_rest_is(tmp_path: Path, head: ScoreHead) -> None:
    options = slot_options(precision="fp16", element="float16")
    (model,), _ = slot_models(tiny_checkpoint(score_head=head), tmp_path, options, ["float16"], lambda *_: None)
    assert model.graph.output[0].name == "score"
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer if tensor.name.startswith("score")}
    assert {stored[name] for name in stored if name.endswith("weight")} == {onnx.TensorProto.FLOAT}
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def test_the_same_checkpoint_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    stored = []
    for _ in range(2):
        compile_slots(tiny_checkpoint(encoding="q4_1"), tmp_path, precision="int4", element="bfloat16")
        stored.append([(tmp_path / file).read_bytes() for file in ("model.onnx", "weights.bin")])
    assert stored[0] == stored[1]
    assert np.frombuffer(stored[0][1], np.uint8).any()
