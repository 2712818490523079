"""The step timing of the scaling benchmark on a tiny model: it computes what it claims to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf_files import model_file
from onnx import TensorProto, helper, numpy_helper

from benchmarks.engine import open_engine
from benchmarks.executor_steps import STEPS, Point, Steps
from benchmarks.weights import weights_read
from build_engine.build import build_bundle
from build_engine.options import BuildOptions
from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor
from runtime.executors.rows import StepInputs


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEREGRINE_CACHE", str(folder / "cache"))
        return build_bundle(str(model_file().write(folder / "tiny.gguf")), BuildOptions(verify=False))


@pytest.fixture
def core(bundle: Path) -> Iterator[EngineCore]:
    made = open_engine(str(bundle), max_running=4, max_total_tokens=1024, max_step_tokens=64)
    yield made
    made.executor.close()


@pytest.fixture
def packed(core: EngineCore, monkeypatch: pytest.MonkeyPatch) -> list[StepInputs]:
    """What the model was run on."""
    assert isinstance(core.executor, HostExecutor)
    seen: list[StepInputs] = []
    forward = core.executor.model.forward

    def spy(inputs: StepInputs) -> np.ndarray:
        seen.append(inputs)
        return forward(inputs)

    monkeypatch.setattr(core.executor.model, "forward", spy)
    return seen


@pytest.fixture
def steps(core: EngineCore) -> Steps:
    vocabulary = core.limits.vocab_size
    return Steps(core, tokens=(1, vocabulary - 1))


def test_decode_steps_have_the_batch_and_the_context_of_their_point(steps: Steps, packed: list[StepInputs]) -> None:
    for point in (Point(3, 1, 20), Point(4, 1, 7), Point(1, 1, 33)):
        packed.clear()
        taken = steps.decode(point)
        assert 5 <= len(taken) <= STEPS
        assert all(seconds > 0 for seconds in taken)
        for number, inputs in enumerate(packed):
            assert inputs.past_lens.tolist() == [point.past + number] * point.rows
            assert len(inputs.token_ids) == len(inputs.logits_rows) == point.rows
            used = inputs.block_table[inputs.block_table >= 0]
            assert len(set(used.tolist())) == len(used)


def test_prefill_steps_run_the_same_chunk_again(steps: Steps, packed: list[StepInputs]) -> None:
    steps.prefill(Point(1, 24, 16))
    for inputs in packed:
        assert (inputs.past_lens.tolist(), len(inputs.token_ids), len(inputs.logits_rows)) == ([16], 24, 1)


def test_weights_read_leave_out_tables_that_are_looked_up_alone(tmp_path: Path) -> None:
    names = {"looked_up": (100, 8), "multiplied": (8, 4), "tied": (50, 8)}
    arrays = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in names.items()]
    nodes = [
        helper.make_node("Gather", ["looked_up", "ids"], ["a"]),
        helper.make_node("Gather", ["tied", "ids"], ["b"]),
        helper.make_node("MatMul", ["a", "multiplied"], ["c"]),
        helper.make_node("Gemm", ["b", "tied"], ["d"], transB=1),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["T"])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(helper.make_graph(nodes, "g", [ids], [], arrays)).SerializeToString())
    assert weights_read(path) == pytest.approx((8 * 4 + 50 * 8) * 4, abs=100)
