"""The engine's rates in the GPU check, on the scripted engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gpu.engine import decode_figures, nearest
from benchmarks.gpu.findings import NotRunError, Settings
from benchmarks.gpu.rates import RequestFailedError, decode_seconds, generate, prefill_seconds
from runtime.bundle.gpu import Gpu
from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine


@pytest.fixture
def core(tmp_path: Path) -> Iterator[EngineCore]:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"vocab_size": 2000, "max_sequence_tokens": 512}))
    made, _ = build_engine(EngineConfig(bundle=str(script), socket="", executor="scripted", prefix_cache=False))
    yield made
    made.executor.close()


def test_continuations_are_those_of_runs_alone(core: EngineCore) -> None:
    prompts = [[5, 6, 7], list(range(100, 140)), [9]]
    together = generate(core, prompts, 6)
    assert together == [generate(core, [prompt], 6)[0] for prompt in prompts]
    assert [len(output) for output in together] == [6, 6, 6]


@pytest.mark.parametrize("streams", [1, 4])
def test_a_measurement_leaves_the_engine_idle(core: EngineCore, streams: int) -> None:
    assert decode_seconds(core, streams, prompt=20, steps=8) > 0
    assert prefill_seconds(core, streams, 100) > 0
    assert not core.has_work
    assert core.check() == []


def test_a_refused_request_ends_the_measurement(core: EngineCore) -> None:
    with pytest.raises(RequestFailedError, match="512"):
        generate(core, [[1] * 511], 100)


def test_the_floor_is_what_reading_takes() -> None:
    figures = decode_figures(0.004, 8, 2e9, Settings(ceilings={"copy_gb_s": 1000.0}))
    assert (figures["tokens_s"], figures["floor_ms"], figures["share_of_floor"]) == (2000.0, 2.0, 0.5)
    assert "floor_ms" not in decode_figures(0.004, 8, 2e9, Settings())


@pytest.mark.parametrize(
    ("capability", "chosen"), [("8.9", "8.9"), ("9.0", "8.9"), ("10.0", "8.9"), ("12.1", "12.1"), ("8.7", "8.6")]
)
def test_rtx_is_tried_with_what_is_nearest(capability: str, chosen: str) -> None:
    assert nearest(Gpu("Some GPU", capability)) == (chosen,)


def test_rtx_is_not_tried_on_what_is_older_than_all_it_knows() -> None:
    with pytest.raises(NotRunError, match="begins at"):
        nearest(Gpu("Old GPU", "6.1"))
