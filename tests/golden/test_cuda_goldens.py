from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cuda_graph import numpy_step, write_cuda_graph
from golden_cases import CASES, SCORE_CASES, GoldenCase, longrope
from paged import Step, engine_step, forward, reference_step

from build_engine.targets.cuda import check_paged_attention

_FITTING = {
    "gemma2": {"head_dim": 32},
    "gemma2-score": {"head_dim": 32},
    "phi3-partial-rotation": {"head_dim": 32, "rope_dim": 16},
    "phi3-longrope-long": {"head_dim": 32, "rope_dim": 16, "rope_scaling": longrope(16, original=8)},
    "phi3-longrope-short": {"head_dim": 32, "rope_dim": 16, "rope_scaling": longrope(16, original=64)},
}
"""Heads and rotation that the operator takes, where a golden's are smaller than any published model's."""


def _fitting(case: GoldenCase) -> GoldenCase:
    return replace(case, overrides=case.overrides | _FITTING.get(case.name, {}))


every_case = pytest.mark.parametrize("case", [*map(_fitting, (*CASES, *SCORE_CASES))], ids=lambda case: case.name)


def _worst(step: Step, case: GoldenCase) -> float:
    """Largest difference from the reference, in units of its largest value."""
    tokens = case.prompt().tolist()
    found, wanted = forward(step, tokens), forward(reference_step(case.checkpoint()), tokens)
    assert found.dtype == np.float32
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@every_case
def test_float32_agrees_with_the_reference_to_rounding(case: GoldenCase, tmp_path: Path) -> None:
    checkpoint = case.checkpoint()
    check_paged_attention(checkpoint.architecture, 256)
    assert _worst(numpy_step(write_cuda_graph(checkpoint, tmp_path, "float32")), case) < 1e-5


@every_case
@pytest.mark.parametrize(("element", "limit"), [("float16", 0.01), ("bfloat16", 0.08)])
def test_half_precision_agrees_to_its_tolerance(case: GoldenCase, tmp_path: Path, element: str, limit: float) -> None:
    assert _worst(numpy_step(write_cuda_graph(case.checkpoint(), tmp_path, element)), case) < limit


@every_case
def test_onnxruntime_computes_the_graph_with_the_cpu_attention_in_its_place(case: GoldenCase, tmp_path: Path) -> None:
    write_cuda_graph(case.checkpoint(), tmp_path, "float32", oracle=True)
    assert _worst(engine_step(tmp_path), case) < 1e-5
