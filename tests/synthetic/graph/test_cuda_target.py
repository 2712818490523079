"""Builds for target cuda: graph, weights, bundle, oracle, and which models it refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import onnx
import pytest
from gguf_files import model_file
from paged import engine_step, forward, reference_step
from tiny import tiny_checkpoint

from build_engine.build import build_bundle
from build_engine.errors import BuildError
from build_engine.options import BuildOptions, complete
from build_engine.plan import plan_build
from build_engine.recheck import recheck
from build_engine.recipes import BuildDefaults
from build_engine.report import manifest_lines
from build_engine.targets.compiled import CompiledEngine
from build_engine.targets.cuda import CudaOptions, check_paged_attention, compile_cuda
from runtime.bundle import open_bundle
from runtime.bundle.architecture import ScoreHead
from runtime.bundle.manifest import KvLayout, Verification

PERFECT = Verification(tokens=1, mean_kl=0.0, top1_agreement=1.0, perplexity=1.0, reference_perplexity=1.0)


def _compile(folder: Path, family: str = "llama", *, oracle: object = None, **choices: object) -> CompiledEngine:
    overrides = choices.pop("overrides", {})
    return compile_cuda(tiny_checkpoint(family, **overrides), folder, CudaOptions(**choices), oracle, lambda *_: None)


def _gguf(folder: Path) -> str:
    return str(model_file().write(folder / "tiny.gguf"))


def _model(folder: Path) -> onnx.ModelProto:
    return onnx.load(folder / "model.onnx", load_external_data=False)


def _attention(folder: Path) -> list[tuple[onnx.NodeProto, dict[str, object]]]:
    return [
        (node, {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute})
        for node in _model(folder).graph.node
        if node.op_type == "PagedAttention"
    ]


def test_inputs_and_outputs_are_the_step_contract(tmp_path: Path) -> None:
    engine = _compile(tmp_path)
    graph = _model(tmp_path).graph
    step = ["token_ids", "cu_seqlens", "past_lens", "block_table", "logits_rows", "attention_bounds"]
    pools = ["k_cache_0", "v_cache_0", "k_cache_1", "v_cache_1"]
    assert [value.name for value in graph.input] == step + pools
    assert [value.name for value in graph.output] == ["logits", *(f"{pool}_out" for pool in pools)]
    pool = graph.input[-1].type.tensor_type
    assert pool.elem_type == onnx.TensorProto.FLOAT16
    assert [dim.dim_value or dim.dim_param for dim in pool.shape.dim] == ["blocks", 256, 2, 16]
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert engine.kv == KvLayout(kind="paged", block_size=256, dtype="float16", order="block,token,kv_head,dim")
    assert engine.limits == {"context_length": 256}


def test_attention_carries_the_options_of_its_layer(tmp_path: Path) -> None:
    _compile(tmp_path, "gemma2", overrides={"head_dim": 32})
    (first, ours), (_, theirs) = _attention(tmp_path)
    assert first.domain == "com.microsoft"
    assert len(first.input) == 17
    assert (ours["local_window_size"], theirs["local_window_size"]) == (5, -1)
    assert ours["softcap"] == 3.0
    assert ours["scale"] == pytest.approx(40**-0.5)
    assert (ours["num_heads"], ours["kv_num_heads"], ours["do_rotary"]) == (4, 2, 1)


def test_norms_over_heads_are_the_operators_own(tmp_path: Path) -> None:
    _compile(tmp_path, "qwen3", overrides={"norm_eps": 1e-6})
    for layer, (node, attributes) in enumerate(_attention(tmp_path)):
        assert list(node.input[12:14]) == [f"model.layers.{layer}.self_attn.{part}_norm.weight" for part in "qk"]
        assert attributes["qk_norm_epsilon"] == pytest.approx(1e-6)


@pytest.mark.parametrize(("precision", "stored"), [("fp16", onnx.TensorProto.FLOAT16), ("bf16", 16)])
def test_everything_is_computed_in_one_half_type(tmp_path: Path, precision: str, stored: int) -> None:
    engine = _compile(tmp_path, "qwen2", precision=precision)
    assert engine.precision == precision
    assert {tensor.data_type for tensor in _model(tmp_path).graph.initializer} == {stored}
    assert Counter(node.op_type for node in _model(tmp_path).graph.node)["Cast"] == 1, "logits, and they alone"


@pytest.mark.parametrize(("precision", "bits", "label"), [("int8", 8, "q8-g32"), ("int4", 4, "q4-g32")])
def test_layers_are_quantised_without_zero_points(tmp_path: Path, precision: str, bits: int, label: str) -> None:
    engine = _compile(tmp_path, "qwen2", precision=precision)
    assert engine.precision == label
    nodes = [node for node in _model(tmp_path).graph.node if node.op_type == "MatMulNBits"]
    assert len(nodes) == 4 * 2
    assert {len(node.input) for node in nodes} == {3, 6}
    assert all(node.input[3:5] in ([], ["", ""]) for node in nodes)
    assert {item.i for node in nodes for item in node.attribute if item.name == "bits"} == {bits}


def test_columns_that_do_not_fit_the_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"q_proj.weight: 72 columns are not a multiple of 32.*--precision fp16"):
        _compile(tmp_path, precision="int8", overrides={"hidden_size": 72})


@pytest.mark.parametrize(
    ("overrides", "block_size", "message"),
    [
        ({"head_dim": 24}, 256, "heads of 24; .* takes multiples of 16 up to 256"),
        ({"head_dim": 272}, 256, "heads of 272"),
        ({"head_dim": 32, "rope_dim": 24}, 256, "24 dimensions of each head rotate; .* multiples of 16"),
        ({}, 128, "block-size 128: target cuda with heads of 16 needs a power of two from 256 to 1024"),
        ({"head_dim": 128}, 64, "from 128 to 1024"),
        ({"head_dim": 256}, 96, "block-size 96"),
        ({}, 2048, "block-size 2048"),
    ],
)
def test_what_the_operator_cannot_take_is_refused(overrides: dict[str, int], block_size: int, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        check_paged_attention(tiny_checkpoint(**overrides).architecture, block_size)


@pytest.mark.parametrize(("head_dim", "block_size"), [(64, 256), (96, 128), (128, 512), (256, 64)])
def test_blocks_that_flash_attention_takes_are_accepted(head_dim: int, block_size: int) -> None:
    check_paged_attention(tiny_checkpoint(head_dim=head_dim).architecture, block_size)


def test_the_oracle_sees_a_graph_for_the_cpu_and_leaves_no_trace(tmp_path: Path) -> None:
    plain, checked = tmp_path / "plain", tmp_path / "checked"
    plain.mkdir()
    checked.mkdir()
    seen = []

    def oracle(folder: Path, kv: KvLayout) -> Verification:
        assert (kv.kind, kv.dtype, kv.block_size) == ("paged", "float32", 16)
        seen.append({node.domain for node in _model(folder).graph.node if node.op_type == "PagedAttention"})
        return PERFECT

    assert _compile(plain, precision="int4").engine.oracle is None
    engine = _compile(checked, precision="int4", oracle=oracle)
    assert seen == [{"peregrine"}]
    assert engine.engine.oracle == PERFECT
    for name in ("model.onnx", "weights.bin"):
        assert (plain / name).read_bytes() == (checked / name).read_bytes()


@pytest.mark.parametrize("score_head", [None, ScoreHead()], ids=["text", "reward"])
def test_a_build_is_verified_by_its_oracle(tmp_path: Path, score_head: ScoreHead | None) -> None:
    tokens, found = list(range(20, 40)), []

    def oracle(folder: Path, _: KvLayout) -> Verification:
        found.append(forward(engine_step(folder), tokens))
        return PERFECT

    checkpoint = tiny_checkpoint("qwen2", score_head=score_head)
    compile_cuda(checkpoint, tmp_path, CudaOptions(), oracle, lambda *_: None)
    wanted = forward(reference_step(checkpoint), tokens)
    assert abs(found[0] - wanted).max() < 0.02 * abs(wanted).max()


def test_a_bundle_says_what_was_built_and_what_was_never_run(tmp_path: Path) -> None:
    bundle = open_bundle(build_bundle(_gguf(tmp_path), BuildOptions(target="cuda", output=tmp_path / "out")))
    manifest = bundle.manifest
    assert (manifest.target, manifest.precision, manifest.kv.block_size) == ("cuda", "fp16", 256)
    assert set(manifest.target_versions) == {"onnxruntime", "onnx"}
    assert {entry.name for entry in manifest.files} >= {"model.onnx", "weights.bin", "tokenizer.json"}
    assert manifest.verification is None
    assert manifest.engine is not None
    assert manifest.engine.oracle is not None
    assert manifest.engine.layers["PagedAttention"] == manifest.architecture.num_layers
    lines = "\n".join(manifest_lines(bundle))
    assert "for compute capability 8.0 and later" in lines
    assert "was not run: this needs a GPU" in lines
    with pytest.raises(BuildError, match="is compiled for target cuda, and verification runs on the CPU"):
        recheck(bundle, None)  # type: ignore[arg-type]


def test_blocks_of_a_gguf_are_kept_where_they_can_be(tmp_path: Path) -> None:
    options = BuildOptions(target="cuda", precision="import", output=tmp_path / "out", verify=False)
    manifest = open_bundle(build_bundle(_gguf(tmp_path), options)).manifest
    assert manifest.precision == "q8-g32"
    assert msgspec.json.decode(msgspec.json.encode(manifest))["engine"]["oracle"] is None


@pytest.mark.parametrize(("precision", "resolved"), [("auto", "fp16"), ("bf16", "bf16"), ("int8", "int8")])
def test_the_plan_knows_the_size_of_what_is_built(tmp_path: Path, precision: str, resolved: str) -> None:
    checkpoint = tiny_checkpoint("qwen2", hidden_size=128, vocab_size=4096, num_layers=4)
    profile = complete(BuildOptions(target="cuda", precision=precision), BuildDefaults())
    plan = plan_build(checkpoint, profile, verify=True, free_disk=1 << 40, free_memory=1 << 40)
    assert plan.precision == resolved
    assert plan.tokens_that_fit is None
    assert plan.kv_bytes_per_token == 4 * 2 * 2 * 16 * 2
    compile_cuda(checkpoint, tmp_path, CudaOptions(precision=resolved), None, lambda *_: None)
    fixed = 8 << 20
    assert plan.engine_bytes - fixed == pytest.approx((tmp_path / "weights.bin").stat().st_size, rel=0.05)
