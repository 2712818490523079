"""Work that no change of ours makes faster or slower: the yardsticks of the timings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

THREADS = 2
_ROWS, _COLUMNS, _ROWS_OUT = 256, 576, 1536
_READ_BYTES = 128_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What a piece of work took: seconds by the clock, and seconds of all threads on their cores."""

    wall: float
    cpu: float


def spent(work: Callable[[], object]) -> Spent:
    """Do ``work`` in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def matrix_products(count: int) -> Callable[[], object]:
    """``count`` times a float32 ``MatMul`` of ONNX Runtime in a session of its own: what arithmetic costs."""
    weights = np.random.default_rng(0).standard_normal((_COLUMNS, _ROWS_OUT), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [_ROWS, _COLUMNS])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [_ROWS, _ROWS_OUT])
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {"x": np.random.default_rng(1).standard_normal((_ROWS, _COLUMNS), np.float32)}

    def run() -> None:
        for _ in range(count):
            session.run(None, inputs)

    return run


def memory_read() -> Callable[[], object]:
    """The sum of an array larger than any cache: what a byte from memory costs."""
    return np.ones(_READ_BYTES // 8, np.int64).sum
