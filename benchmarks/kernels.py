"""What the machine and the linear kernels can do: ``python -m benchmarks.kernels``."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from build_engine.quantize.tiles import TILE, tile_bytes
from runtime.native import library_path

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


class Layers:
    """As many equal layers side by side as take ``BYTES_AT_LEAST``, in one session."""

    def __init__(self, columns: int, rows_out: int) -> None:
        self.columns, self.rows_out = columns, rows_out
        self._rng = np.random.default_rng(0)

    def stock(self, bits: int) -> None:
        """``MatMulNBits`` with zero points."""
        groups = self.columns // GROUP
        arrays = {
            "q": self._rng.integers(0, 256, (self.rows_out, groups, GROUP * bits // 8), dtype=np.uint8),
            "s": np.full((self.rows_out, groups), 0.01, dtype=np.float32),
            "z": self._rng.integers(0, 256, (self.rows_out, (groups * bits + 7) // 8), dtype=np.uint8),
        }
        attributes = {"bits": bits, "block_size": GROUP, "accuracy_level": 4}
        self._open("MatMulNBits", "com.microsoft", arrays, attributes)

    def native(self, bits: int, group: int, *, offsets: bool) -> None:
        """``peregrine::Linear``."""
        size = tile_bytes(self.columns, bits=bits, group=group, offsets=offsets, scale_bytes=2)
        tiles = self._rng.integers(0, 256, (-(-self.rows_out // TILE), size), dtype=np.uint8)
        levels = self.columns * TILE * bits // 8
        tiles[:, levels:] = np.full((size - levels) // 2, 0.01, np.float16).view(np.uint8)
        attributes = {"bits": bits, "group": group, "offsets": int(offsets), "scale_bytes": 2}
        self._open("Linear", "peregrine", {"w": tiles}, attributes)

    def rates(self) -> list[float]:
        """GFLOP/s by rows."""
        found = []
        for rows in ROWS:
            x = np.random.default_rng(1).standard_normal((rows, self.columns)).astype(np.float32)
            result = np.empty((rows, self.rows_out), np.float32)
            binding = self._session.io_binding()
            binding.bind_cpu_input("x", x)
            for layer in range(self._count):
                binding.bind_output(f"y{layer}", "cpu", 0, np.float32, result.shape, result.ctypes.data)
            seconds = best_seconds(lambda bound=binding: self._session.run_with_iobinding(bound))
            found.append(2 * rows * self.columns * self.rows_out * self._count / seconds / 1e9)
        return found

    def _open(
        self, operator: str, domain: str, arrays: dict[str, npt.NDArray[np.generic]], attributes: dict[str, int]
    ) -> None:
        self._count = max(1, BYTES_AT_LEAST // max(array.nbytes for array in arrays.values()))
        nodes, weights = [], []
        for layer in range(self._count):
            names = [f"{part}{layer}" for part in arrays]
            weights += [
                numpy_helper.from_array(array, name) for array, name in zip(arrays.values(), names, strict=True)
            ]
            sizes = {"K": self.columns, "N": self.rows_out}
            nodes.append(helper.make_node(operator, ["x", *names], [f"y{layer}"], domain=domain, **sizes, **attributes))
        shape = ["T", self.rows_out]
        outputs = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, shape) for i in range(self._count)]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", self.columns])]
        graph = helper.make_graph(nodes, "layers", inputs, outputs, weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = ort.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.register_custom_ops_library(str(library_path()))
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


KINDS: dict[str, Callable[[Layers], None]] = {
    "Linear, 4 bit, groups of 32 with offsets": lambda layers: layers.native(4, 32, offsets=True),
    "Linear, 8 bit, groups of 32": lambda layers: layers.native(8, 32, offsets=False),
    "Linear, 8 bit, groups of 64": lambda layers: layers.native(8, 64, offsets=False),
    "MatMulNBits, 8 bit, groups of 32 with zero points": lambda layers: layers.stock(8),
    "MatMulNBits, 4 bit, groups of 32 with zero points": lambda layers: layers.stock(4),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="kinds whose names hold this")
    only = parser.parse_args().only
    print(f"sequential read, one thread: {read_bandwidth() / 1e9:.0f} GB/s")
    for kind, prepare in KINDS.items():
        if only not in kind:
            continue
        print(f"{kind}; GFLOP/s by rows".ljust(68) + " ".join(f"{rows:>5}" for rows in ROWS))
        for columns, rows_out in SHAPES:
            layers = Layers(columns, rows_out)
            prepare(layers)
            print(f"  {columns:>5} x {rows_out:<5}".ljust(68) + " ".join(f"{rate:>5.0f}" for rate in layers.rates()))


if __name__ == "__main__":
    main()
