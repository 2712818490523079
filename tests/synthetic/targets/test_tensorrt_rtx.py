"""Engines compiled for real by TensorRT-RTX, without a GPU: what they are made of, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slot_engine import slot_options
from tiny import tiny_checkpoint

from build_engine.errors import BuildError
from build_engine.targets.compiled import CompiledEngine
from build_engine.targets.tensorrt import TensorRtOptions, compile_tensorrt
from build_engine.verify import verify_bundle
from runtime.bundle.architecture import ScoreHead

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: nothing is compiled for GPUs here")

HALF = {"precision": "fp16", "element": "float16"}


def compiled(directory: Path, family: str = "llama", *, slots: dict[str, Any] = HALF, **choices: Any) -> CompiledEngine:
    overrides, progress = choices.pop("overrides", {}), choices.pop("progress", lambda *_: None)
    choices = {"flavour": "tensorrt-rtx", "compute_capabilities": ("8.6",)} | choices
    options = TensorRtOptions(slots=slot_options(**slots), **choices)
    return compile_tensorrt(tiny_checkpoint(family, **overrides), directory, options, None, progress)


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "output_bias": True, "mlp_bias": True}),
        ("mistral", {"sliding_windows": (5, 0, 7)}),
        ("qwen2", {"score_head": ScoreHead(hidden_size=64, bias=True)}),
        ("qwen3", {"score_head": ScoreHead()}),
        ("phi3", {"rope_dim": 8}),
        ("internlm2", {"activation": "gelu_tanh"}),
    ],
)
def test_every_familys_layers_become_the_fused_ones(tmp_path: Path, family: str, overrides: dict[str, Any]) -> None:
    engine = compiled(tmp_path, family, overrides={"num_layers": 3} | overrides).engine
    assert engine is not None
    assert (tmp_path / "engine.plan").stat().st_size == engine.plan_bytes > 100_000
    names = ("ATTENTION", "KV_CACHE_UPDATE", "ROTARY_EMBEDDING")
    assert [engine.layers[name] for name in names] == [3, 6, 6]


def test_soft_capped_attention_compiles_in_single_steps(tmp_path: Path) -> None:
    engine = compiled(tmp_path, "gemma2", slots={"precision": "bf16", "element": "bfloat16"}).engine
    assert engine is not None
    assert [engine.layers.get(name, 0) for name in ("ATTENTION", "KV_CACHE_UPDATE", "SOFTMAX")] == [0, 4, 2]


@pytest.mark.parametrize(
    ("precision", "element", "label", "dequantised"),
    [
        ("bf16", "bfloat16", "bf16", 0),
        ("fp32", "float32", "fp32", 0),
        ("int8", "float16", "q8-g32", 8),
        ("int4", "bfloat16", "q4-g32", 8),
    ],
)
def test_every_precision_compiles(tmp_path: Path, precision: str, element: str, label: str, dequantised: int) -> None:
    made = compiled(tmp_path, slots={"precision": precision, "element": element})
    assert made.engine is not None
    assert (made.precision, made.kv.dtype) == (label, element)
    assert made.engine.layers.get("DEQUANTIZE", 0) == dequantised
    assert made.engine.layers["ATTENTION"] == 2


def test_low_precision_makes_small_plans(tmp_path: Path) -> None:
    wide = {"hidden_size": 512, "intermediate_size": 2048, "num_layers": 1}
    sizes = []
    for precision in ("int4", "int8", "fp16"):
        engine = compiled(tmp_path, slots={"precision": precision, "element": "float16"}, overrides=wide).engine
        assert engine is not None
        sizes.append(engine.plan_bytes)
    weights = 512 * (64 + 2 * 32 + 64 + 3 * 2048)
    assert sizes[1] - sizes[0] > 0.45 * weights
    assert sizes[2] - sizes[1] > 0.5 * weights


def test_the_record_says_what_was_compiled_for_what(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    made = compiled(tmp_path, compute_capabilities=("8.9", "12.0"), progress=lambda *event: seen.append(event))
    assert made.engine is not None
    assert made.engine.compute_capabilities == ("8.9", "12.0")
    assert [(profile.name, profile.batch, profile.tokens, profile.rows) for profile in made.engine.profiles] == [
        ("prefill", (1, 1, 1), (1, 16, 16), (1, 1, 16)),
        ("decode", (1, 5, 5), (1, 1, 1), (1, 5, 5)),
    ]
    assert made.engine.build_seconds > 0
    assert made.engine.peak_bytes > 1 << 20
    assert made.engine.oracle is None
    assert made.target_versions.keys() == {"tensorrt-rtx", "onnx"}
    assert (made.kv.kind, made.kv.block_size) == ("linear", 64)
    assert made.limits == {"slots": 5, "max_step_tokens": 16, "context_length": 63}
    assert [path.name for path in tmp_path.iterdir()] == ["engine.plan"]
    shares = [done for stage, done, _ in seen if stage == "compile"]
    assert shares == sorted(shares)
    assert shares[-1] == 1000
    assert len(set(shares)) > 20


def test_the_graph_stays_if_it_is_wanted(tmp_path: Path) -> None:
    compiled(tmp_path, keep_onnx=True)
    assert {path.name for path in tmp_path.iterdir()} == {"engine.plan", "model.onnx", "weights.bin"}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_oracle_sees_graph_and_weights_of_the_engine(tmp_path: Path, precision: str) -> None:
    checkpoint = tiny_checkpoint()
    options = TensorRtOptions(
        flavour="tensorrt-rtx",
        slots=slot_options(precision=precision, element="float16"),
        compute_capabilities=("8.6",),
    )
    seen = []

    def oracle(directory: Path) -> Any:
        seen.append(verify_bundle(directory, checkpoint, options.slots.slot_tokens, kind="linear"))
        return seen[0]

    made = compile_tensorrt(checkpoint, tmp_path, options, oracle, lambda *_: None)
    assert made.engine is not None
    assert made.engine.oracle == seen[0]
    assert 0 < seen[0].mean_kl < {"fp16": 1e-5, "int8": 3e-3}[precision]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"compute_capabilities": ("9.0",)}, r"compute-capability 9\.0: tensorrt-rtx .* compiles for 7\.5, 8\.0, 8\.6"),
        (
            {"compute_capabilities": ("7.5",), "slots": {"precision": "bf16", "element": "bfloat16"}},
            r"compute-capability 7\.5: has no bfloat16; build with --precision fp16",
        ),
    ],
)
def test_gpus_that_cannot_be_compiled_for_are_refused_at_once(
    tmp_path: Path, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        compiled(tmp_path, **choices)
    assert not list(tmp_path.iterdir())


def test_a_graph_that_the_parser_refuses_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from build_engine.graph.builder import GraphBuilder

    emit = GraphBuilder.node

    def foreign(self: GraphBuilder, operator: str, *arguments: Any, **attributes: Any) -> str:
        return emit(self, "Swosh" if operator == "Swish" else operator, *arguments, **attributes)

    monkeypatch.setattr(GraphBuilder, "node", foreign)
    with pytest.raises(BuildError, match=r"tensorrt_rtx 1\.\S+ does not take the graph: Swosh layers.0.activated: "):
        compiled(tmp_path)


def test_an_interrupted_compilation_ends_with_the_interruption(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "compile" and done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled(tmp_path, progress=interrupt)
    assert not (tmp_path / "engine.plan").exists()
