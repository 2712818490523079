"""What the regression gate counts, on a tiny bundle with the native ops and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf_files import model_file

from benchmarks.regression.calibration import matrix_products, memory_read, spent
from benchmarks.regression.counters import growth, memory
from benchmarks.regression.engines import open_engine
from benchmarks.regression.graph import built_nodes, optimised_nodes
from benchmarks.regression.replay import Arrival, Scenario, count
from build_engine.build import build_bundle
from build_engine.options import BuildOptions
from runtime.bundle.manifest_file import read_manifest
from runtime.native.library import load_library

LIMITS = {"max_request_tokens": 200, "max_total_tokens": 512}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEREGRINE_CACHE", str(folder / "cache"))
        return build_bundle(str(model_file().write(folder / "tiny.gguf")), BuildOptions(verify=False))


def test_a_replay_counts_the_same_each_time(bundle: Path) -> None:
    arrivals = (*(Arrival(step=i, prompt=30, output=6, shared=16) for i in range(3)), Arrival(prompt=150, output=2))
    scenario = Scenario("mixed", arrivals)
    first, again = (count(open_engine(bundle, max_step_tokens=64, **LIMITS), scenario) for _ in range(2))
    assert first == again
    assert first["tokens generated"] == 20
    assert first["tokens computed"] == 3 * 35 + 151 - first["prefix hits"]


def test_steady_work_takes_nothing_more(bundle: Path) -> None:
    assert set(growth(open_engine(bundle, **LIMITS)).values()) == {0}
    assert load_library().peregrine_workspace_allocations() > 0


def test_the_graph_is_counted_by_node_type(bundle: Path) -> None:
    layers = read_manifest(bundle).architecture.num_layers
    for nodes in (built_nodes(bundle), optimised_nodes(bundle)):
        assert nodes["peregrine.PagedAttention"] == layers
        assert nodes.pop("all") == sum(nodes.values())


def test_weights_are_mapped_and_nothing_else_is_taken_for_them(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.regression.counters.open_engine", lambda path: open_engine(path, **LIMITS))
    found = memory(bundle)
    assert 0 < found["bytes of weights mapped"] <= found["bytes of weights"] + 4095
    assert found["bytes of KV a token"] == found["bytes of KV a token, as limits have it"]


def test_calibrations_take_time_on_both_clocks() -> None:
    for work in (matrix_products(2), memory_read()):
        taken = spent(work)
        assert taken.wall > 0
        assert taken.cpu > 0
