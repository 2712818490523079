"""Buffers that stay bound: each run reads what was filled in last, whatever shapes came before."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from runtime.executors.bound_tensors import BoundInput, BoundOutput


class Recorder:
    """An ``IOBinding`` whose calls are counted."""

    def __init__(self, binding: ort.IOBinding) -> None:
        self.binding = binding
        self.calls = 0

    def bind_input(self, *arguments: object) -> None:
        self.calls += 1
        self.binding.bind_input(*arguments)

    def bind_output(self, *arguments: object) -> None:
        self.calls += 1
        self.binding.bind_output(*arguments)


def doubling() -> tuple[ort.InferenceSession, Recorder]:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["r", "c"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session, Recorder(session.io_binding())


def test_runs_of_many_shapes_read_and_write_what_they_should() -> None:
    session, recorder = doubling()
    bound = BoundInput(recorder, "x", np.float32)
    buffer = np.zeros((40, 3), dtype=np.float32)
    output = BoundOutput(recorder, "y", buffer)
    rng = np.random.default_rng(0)
    for rows in (2, 2, 1, 40, 7, 40, 1):
        values = rng.standard_normal((rows, 3)).astype(np.float32)
        bound.fill(values)
        results = output.rows(rows)
        session.run_with_iobinding(recorder.binding)
        assert results.shape == (rows, 3)
        assert (results == 2 * values).all()
        assert np.shares_memory(results, buffer)


def test_nothing_is_bound_anew_while_the_shape_stays() -> None:
    _, recorder = doubling()
    bound, output = BoundInput(recorder, "x", np.float32), BoundOutput(recorder, "y", np.zeros((9, 3), np.float32))
    for _ in range(5):
        bound.fill(np.ones((4, 3), dtype=np.float32))
        output.rows(4)
    assert recorder.calls == 2
    bound.fill(np.ones((5, 3), dtype=np.float32))
    output.rows(5)
    assert recorder.calls == 4


def test_an_input_may_be_empty() -> None:
    session, recorder = doubling()
    bound, output = BoundInput(recorder, "x", np.float32), BoundOutput(recorder, "y", np.zeros((9, 3), np.float32))
    bound.fill(np.zeros((0, 3), dtype=np.float32))
    results = output.rows(0)
    session.run_with_iobinding(recorder.binding)
    assert results.shape == (0, 3)
