from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from tiny import tiny_checkpoint

from build_engine.checkpoint import Checkpoint
from build_engine.targets.cpu import CompiledEngine, CpuOptions, compile_cpu
from runtime.bundle.architecture import ScoreHead


def _compile(checkpoint: Checkpoint, directory: Path, **options) -> tuple[CompiledEngine, onnx.ModelProto]:
    engine = compile_cpu(checkpoint, directory, CpuOptions(**options), lambda *_: None)
    return engine, onnx.load(directory / "model.onnx", load_external_data=False)


def _nodes(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == operator]


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def test_inputs_and_outputs_are_the_step_contract(tmp_path: Path) -> None:
    _, model = _compile(tiny_checkpoint(), tmp_path, kv_dtype="float16", block_size=8)
    step = ["token_ids", "cu_seqlens", "past_lens", "block_table", "logits_rows"]
    pools = ["k_cache_0", "v_cache_0", "k_cache_1", "v_cache_1"]
    assert [value.name for value in model.graph.input] == step + pools
    assert [value.name for value in model.graph.output] == ["logits", *(f"{pool}_out" for pool in pools)]
    pool = model.graph.input[-1].type.tensor_type
    assert pool.elem_type == onnx.TensorProto.FLOAT16
    assert [dim.dim_value or dim.dim_param for dim in pool.shape.dim] == ["blocks", 2, 8, 16]


def test_projections_are_fused_into_four_products_a_layer_and_a_head(tmp_path: Path) -> None:
    _, model = _compile(tiny_checkpoint(), tmp_path, precision="int8")
    products = [(_attributes(node)["N"], _attributes(node)["K"]) for node in _nodes(model, "Linear")]
    assert products == [(128, 64), (64, 64), (192, 64), (64, 96)] * 2 + [(260, 64)]


def test_the_gated_activation_is_part_of_its_product_where_weights_are_quantised(tmp_path: Path) -> None:
    _, quantised = _compile(tiny_checkpoint(), tmp_path, precision="int8")
    assert [_attributes(node).get("swiglu", 0) for node in _nodes(quantised, "Linear")] == [0, 0, 1, 0] * 2 + [0]
    _, floats = _compile(tiny_checkpoint(), tmp_path, precision="fp32")
    assert len(_nodes(floats, "SiluMul")) == 2


@pytest.mark.parametrize(("hidden_size", "groups"), [(64, [64, 64, 64, 32]), (96, [32, 64, 32, 32])])
def test_wide_groups_are_taken_where_the_columns_allow_them(tmp_path: Path, hidden_size: int, groups) -> None:
    engine, model = _compile(tiny_checkpoint(hidden_size=hidden_size), tmp_path, precision="int8", group=64)
    assert [_attributes(node)["group"] for node in _nodes(model, "Linear")][:4] == groups
    assert engine.precision == "q8-g32+q8-g64"


def test_everything_after_the_last_attention_runs_on_wanted_rows_only(tmp_path: Path) -> None:
    _, model = _compile(tiny_checkpoint(), tmp_path)
    gathers = [node for node in _nodes(model, "Gather") if "logits_rows" in node.input]
    attention = _nodes(model, "PagedAttention")
    assert gathers[0].input[0] == attention[-1].output[0]
    assert len(gathers) == 2


def test_attention_carries_the_options_of_its_layer(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("mistral", sliding_windows=(5, 0), norm_eps=1e-6)
    _, model = _compile(checkpoint, tmp_path)
    first, second = (_attributes(node) for node in _nodes(model, "PagedAttention"))
    assert (first["sliding_window"], second["sliding_window"]) == (5, 0)
    assert (first["num_heads"], first["kv_num_heads"], first["head_dim"], first["rotary_dim"]) == (4, 2, 16, 16)
    assert first["scale"] == pytest.approx(0.25)
    assert first["norm_eps"] == pytest.approx(1e-6)


def test_biases_and_head_norms_reach_their_operators(tmp_path: Path) -> None:
    _, biased = _compile(tiny_checkpoint("qwen2"), tmp_path, precision="fp32")
    assert [len(node.input) for node in _nodes(biased, "Gemm")][:2] == [3, 2]
    _, normed = _compile(tiny_checkpoint("qwen3"), tmp_path)
    assert len(_nodes(normed, "PagedAttention")[0].input) == 10


def test_gemmas_options_reach_the_graph(tmp_path: Path) -> None:
    _, model = _compile(tiny_checkpoint("gemma2"), tmp_path, precision="int8")
    first, second = (_attributes(node) for node in _nodes(model, "PagedAttention"))
    assert first["softcap"] == second["softcap"] == 3.0
    assert (first["sliding_window"], second["sliding_window"]) == (5, 0)
    assert first["scale"] == pytest.approx(40**-0.5)
    norms = _nodes(model, "SimplifiedLayerNormalization")
    assert len(norms) == 2 * 2  # those after a layer; the one before the first layer is part of it
    assert len(_nodes(model, "SkipSimplifiedLayerNormalization")) == 2 * 2
    assert [node.output[0] for node in _nodes(model, "Mul") if "gated" not in node.output[0]] == [
        "embedding.scaled",
        "logits",
    ]
    assert [node.op_type for node in model.graph.node][-3:] == ["Div", "Tanh", "Mul"]


def test_plain_models_pay_for_no_option_they_lack(tmp_path: Path) -> None:
    _, model = _compile(tiny_checkpoint("internlm2"), tmp_path, precision="int8")
    assert {node.op_type for node in model.graph.node} == {
        "QuantEmbedding",
        "Linear",
        "PagedAttention",
        "Gather",
    }


@pytest.mark.parametrize("precision", ["int8", "int4", "fp32"])
@pytest.mark.parametrize("head", [ScoreHead(), ScoreHead(hidden_size=24, bias=True)], ids=["linear", "layers"])
def test_a_reward_graph_ends_in_a_float_score_of_each_wanted_row(tmp_path: Path, precision, head: ScoreHead) -> None:
    _, model = _compile(tiny_checkpoint(score_head=head), tmp_path, precision=precision)
    score = model.graph.output[0]
    assert score.name == "score"
    assert score.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [dim.dim_param for dim in score.type.tensor_type.shape.dim] == ["rows"]
    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name.startswith("score")}
    weights = ["score.0.weight", "score.2.weight"] if head.hidden_size else ["score.weight"]
    assert all(stored[name].data_type == onnx.TensorProto.FLOAT for name in weights)
    assert not [value for value in model.graph.output if value.name == "logits"]
    gathers = [node for node in _nodes(model, "Gather") if "logits_rows" in node.input]
    assert len(gathers) == 2


@pytest.mark.parametrize("tied", [False, True])
def test_a_reward_model_stores_no_output_head(tmp_path: Path, tied: bool) -> None:
    engine, model = _compile(tiny_checkpoint(score_head=ScoreHead(), tied_embeddings=tied), tmp_path, precision="int8")
    products = [_attributes(node)["N"] for node in _nodes(model, "Linear")]
    assert products == [128, 64, 192, 64] * 2
    assert engine.precision == "q8-g32"


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_tied_head_reads_the_bytes_of_the_embedding(tmp_path: Path, precision) -> None:
    tied, untied = tmp_path / "tied", tmp_path / "untied"
    tied.mkdir()
    untied.mkdir()
    _compile(tiny_checkpoint(tied_embeddings=True), tied, precision=precision)
    _compile(tiny_checkpoint(), untied, precision=precision)
    saved = (untied / "weights.bin").stat().st_size - (tied / "weights.bin").stat().st_size
    assert saved >= 260 * 64


@pytest.mark.parametrize(
    ("encoding", "precision", "label"),
    [
        ("q4_1", "import", "q4-g32"),
        ("f32", "int4", "q4+q8-g32"),
        ("f32", "int8", "q8-g32"),
        ("q8_0", "fp32", "fp32"),
    ],
)
def test_the_precision_is_recorded(tmp_path: Path, encoding: str, precision, label: str) -> None:
    engine, _ = _compile(tiny_checkpoint(encoding=encoding, tied_embeddings=True), tmp_path, precision=precision)
    assert engine.precision == label
    assert engine.limits == {"context_length": 256}
    assert set(engine.target_versions) == {"onnxruntime", "onnx"}


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    compile_cpu(tiny_checkpoint(), tmp_path, CpuOptions(), lambda *event: seen.append(event))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1] == ("weights", 3, 3)


def test_the_same_checkpoint_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    stored = []
    for name in ("first", "second"):
        directory = tmp_path / name
        directory.mkdir()
        _compile(tiny_checkpoint(encoding="q4_1"), directory)
        stored.append([(directory / file).read_bytes() for file in ("model.onnx", "weights.bin")])
    assert stored[0] == stored[1]
