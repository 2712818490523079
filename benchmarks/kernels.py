"""What the machine and ONNX Runtime's linear kernel can do: ``python -m benchmarks.kernels``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

SHAPES = ((576, 960), (576, 3072), (1536, 576), (576, 49152))
ROWS = (1, 4, 8, 32, 128, 256)
GROUP = 32
BYTES_AT_LEAST = 50_000_000
"""Weights of one measurement, so that they come from memory as they do in a model."""


def best_seconds(run: Callable[[], object], repetitions: int = 7) -> float:
    """The fastest of some runs."""
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def read_bandwidth() -> float:
    """Bytes a second that one thread sums from 400 MB."""
    data = np.ones(50_000_000, dtype=np.int64)
    return data.nbytes / best_seconds(data.sum)


def layers(columns: int, rows_out: int, bits: int) -> tuple[ort.InferenceSession, int]:
    """As many equal ``MatMulNBits`` layers side by side as take ``BYTES_AT_LEAST``."""
    rng = np.random.default_rng(0)
    size = columns * rows_out * bits // 8
    count = max(1, BYTES_AT_LEAST // size)
    nodes, weights = [], []
    for layer in range(count):
        names = [f"{part}{layer}" for part in ("q", "s", "z")]
        groups = columns // GROUP
        arrays = (
            rng.integers(0, 256, (rows_out, groups, GROUP * bits // 8), dtype=np.uint8),
            np.full((rows_out, groups), 0.01, dtype=np.float32),
            rng.integers(0, 256, (rows_out, (groups * bits + 7) // 8), dtype=np.uint8),
        )
        weights += [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
        options = {"K": columns, "N": rows_out, "bits": bits, "block_size": GROUP, "accuracy_level": 4}
        nodes.append(helper.make_node("MatMulNBits", ["x", *names], [f"y{layer}"], domain="com.microsoft", **options))
    outputs = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["T", rows_out]) for i in range(count)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", columns])]
    graph = helper.make_graph(nodes, "layers", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), count


def main() -> None:
    """Print the table."""
    print(f"sequential read, one thread: {read_bandwidth() / 1e9:.0f} GB/s")
    print("MatMulNBits with zero points, groups of 32, GFLOP/s by rows " + " ".join(f"{rows:>5}" for rows in ROWS))
    for bits in (8, 4):
        for columns, rows_out in SHAPES:
            session, count = layers(columns, rows_out, bits)
            rates = []
            for rows in ROWS:
                x = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32)
                seconds = best_seconds(lambda s=session, x=x: s.run(None, {"x": x}))
                rates.append(2 * rows * columns * rows_out * count / seconds / 1e9)
            print(f"{bits} bit, {columns:>5} x {rows_out:<5}{'':>37}" + " ".join(f"{rate:>5.0f}" for rate in rates))


if __name__ == "__main__":
    main()
