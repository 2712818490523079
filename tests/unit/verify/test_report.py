from __future__ import annotations

from pathlib import Path
from typing import Any

from toy_manifest import toy_manifest

from build_engine.report import manifest_lines, result_lines, verification_lines
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import EngineRecord, KvLayout, ScoreVerification, ShapeProfile, Verification


def test_a_generator_is_reported_by_divergence_and_perplexity() -> None:
    verification = Verification(
        tokens=500, mean_kl=0.0123, top1_agreement=0.987, perplexity=12.5, reference_perplexity=12.25
    )
    (line,) = verification_lines(verification)
    for figure in ("mean KL 0.0123", "98.7%", "12.50 (float32 12.25)", "500 tokens"):
        assert figure in line


def test_a_reward_model_is_reported_by_its_scores() -> None:
    verification = ScoreVerification(
        tokens=500, mean_error=0.0123, max_error=0.25, reference_deviation=1.5, correlation=0.99975
    )
    (line,) = verification_lines(verification)
    for figure in ("0.0123 in the mean", "0.2500 at most", "1.5000", "correlation 0.99975", "500 tokens"):
        assert figure in line


def test_an_unverified_engine_is_called_so() -> None:
    assert verification_lines(None) == ["verification   none"]


def compiled(**changes: Any) -> EngineRecord:
    values: dict[str, Any] = {
        "flavour": "tensorrt-rtx",
        "version": "1.7",
        "compute_capabilities": ("8.6", "8.9"),
        "layers": {"KV_CACHE_UPDATE": 4, "ATTENTION": 2},
        "profiles": (ShapeProfile(name="decode", batch=(1, 8, 8), tokens=(1, 1, 1), rows=(1, 8, 8)),),
        "plan_bytes": 292_000_000,
        "build_seconds": 9.87,
        "peak_bytes": 1_650_000_000,
        "verified": "not run: no NVIDIA driver",
    }
    return EngineRecord(**(values | changes))


def test_a_compiled_engine_is_described_by_what_it_was_made_of() -> None:
    kv = KvLayout(kind="linear", block_size=192)
    lines = manifest_lines(Bundle(Path("x"), toy_manifest(target="tensorrt-rtx", kv=kv, engine=compiled())))
    for line in (
        "KV cache       linear, slots of 192, float16, 256 bytes per token",
        "compiled       by tensorrt-rtx 1.7 for compute capability 8.6, 8.9 in 9.9 s: 292 MB, peak memory 1,650 MB",
        "profile        decode: 1 to 8 slots of 1 tokens, 1 to 8 rows of results",
        "layers         2 ATTENTION, 4 KV_CACHE_UPDATE",
    ):
        assert line in lines


def test_a_plan_that_was_never_run_is_called_so_and_its_oracle_told_apart() -> None:
    oracle = Verification(tokens=9, mean_kl=1.5e-6, top1_agreement=1.0, perplexity=9.0, reference_perplexity=9.0)
    assert result_lines(toy_manifest(engine=compiled())) == [
        "verification   of the plan: not run: no NVIDIA driver",
        "oracle         none",
    ]
    line = result_lines(toy_manifest(engine=compiled(oracle=oracle)))[1]
    assert line.startswith("oracle         mean KL 1.5e-06 nats, ")
    assert line.endswith(" (its graph and weights in float32 on the CPU)")


def test_without_a_compiler_the_engine_itself_was_verified() -> None:
    assert result_lines(toy_manifest()) == ["verification   none"]
