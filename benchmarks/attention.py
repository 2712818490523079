"""What paged attention costs in the steps of a model: ``python -m benchmarks.attention``.

Every layer has pools of its own, so that keys and values come from memory as they do in a model. Blocks lie scattered.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from runtime.executors.ort_session import zeros
from runtime.native import active_isa, library_path
from runtime.reference import rotary_tables

_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
_TABLES = {
    "cu_seqlens": TensorProto.INT32,
    "past_lens": TensorProto.INT32,
    "block_table": TensorProto.INT32,
    "cos": TensorProto.FLOAT,
    "sin": TensorProto.FLOAT,
}
_BLOCK_SIZE = 16


@dataclass(frozen=True)
class Heads:
    """Those of a model, and its layers."""

    queries: int = 9
    keys: int = 3
    dim: int = 64
    layers: int = 30


@dataclass(frozen=True)
class Step:
    """Sequences as (new tokens, past tokens)."""

    name: str
    sequences: tuple[tuple[int, int], ...]

    def keys_read(self) -> int:
        """Of one KV head."""
        return sum(new + past for new, past in self.sequences)

    def products(self) -> int:
        """Pairs of a query token and a key that it sees."""
        return sum(new * past + new * (new + 1) // 2 for new, past in self.sequences)


STEPS = (
    Step("1 x decode at 200", ((1, 200),)),
    Step("32 x decode at 200", ((1, 200),) * 32),
    Step("4 x decode at 2048", ((1, 2048),) * 4),
    Step("1 x decode at 8000", ((1, 8000),)),
    Step("256 tokens of a prompt at 0", ((256, 0),)),
    Step("256 tokens of a prompt at 768", ((256, 768),)),
    Step("256 tokens of a prompt at 1792", ((256, 1792),)),
)


def model(heads: Heads, element: int) -> bytes:
    """As many attention nodes side by side as the model has layers, with one query input for all."""
    attributes = {"num_heads": heads.queries, "kv_num_heads": heads.keys, "head_dim": heads.dim}
    inputs = [helper.make_tensor_value_info("qkv", TensorProto.FLOAT, None)]
    inputs += [helper.make_tensor_value_info(name, kind, None) for name, kind in _TABLES.items()]
    outputs, nodes = [], []
    for layer in range(heads.layers):
        pools = [f"{part}{layer}" for part in ("k", "v")]
        results = [f"out{layer}", *(f"{pool}_out" for pool in pools)]
        nodes.append(
            helper.make_node("PagedAttention", ["qkv", *pools, *_TABLES], results, domain="peregrine", **attributes)
        )
        inputs += [helper.make_tensor_value_info(pool, element, None) for pool in pools]
        kinds = (TensorProto.FLOAT, element, element)
        outputs += [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(results, kinds, strict=True)]
    graph = helper.make_graph(nodes, "layers", inputs, outputs)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("peregrine", 1)]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return serialized


def tables(step: Step, heads: Heads, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The inputs that all layers share."""
    counts = [-(-(new + past) // _BLOCK_SIZE) for new, past in step.sequences]
    blocks = rng.permutation(sum(counts)).astype(np.int32)
    table = np.full((len(counts), max(counts)), -1, np.int32)
    for row, count in enumerate(counts):
        table[row, :count], blocks = blocks[:count], blocks[count:]
    cos, sin = rotary_tables(10000.0, heads.dim, max(new + past for new, past in step.sequences))
    ends = np.cumsum([0, *(new for new, _ in step.sequences)]).astype(np.int32)
    width = (heads.queries + 2 * heads.keys) * heads.dim
    return {
        "qkv": rng.standard_normal((int(ends[-1]), width), dtype=np.float32),
        "cu_seqlens": ends,
        "past_lens": np.array([past for _, past in step.sequences], np.int32),
        "block_table": table,
        "cos": cos,
        "sin": sin,
    }


def bound_step(step: Step, heads: Heads, cache: str, session: ort.InferenceSession) -> Callable[[], None]:
    """Runs the step once, over memory that it keeps alive."""
    rng = np.random.default_rng(0)
    shared = tables(step, heads, rng)
    binding = session.io_binding()
    for name, array in shared.items():
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    shape = (int(shared["block_table"].max()) + 1, heads.keys, _BLOCK_SIZE, heads.dim)
    # NOTE: small numbers in every type: 0x3c00 to 0x3fff are 1 to 2 in float16 and below 2 in bfloat16.
    fill = (0x3C00 + rng.integers(0, 0x400, shape)).astype(np.uint16)
    pools = []
    for name in (f"{part}{layer}" for layer in range(heads.layers) for part in ("k", "v")):
        pool = zeros(shape, np.float32 if cache == "float32" else np.uint16)
        pool[...] = fill
        pools.append(pool)
        binding.bind_input(name, "cpu", 0, _TYPES[cache], pool.shape, pool.ctypes.data)
        binding.bind_output(f"{name}_out", "cpu", 0, _TYPES[cache], pool.shape, pool.ctypes.data)
    rows = len(shared["qkv"])
    results = np.empty((heads.layers, rows, heads.queries * heads.dim), np.float32)
    for layer in range(heads.layers):
        out = results[layer]
        binding.bind_output(f"out{layer}", "cpu", 0, out.dtype, out.shape, out.ctypes.data)
    keep = (shared, pools, results)

    def run() -> None:
        assert keep
        session.run_with_iobinding(binding)

    return run


def best_seconds(run: Callable[[], None], repetitions: int) -> float:
    """The fastest of some runs after two to warm up."""
    times = []
    for _ in range(repetitions + 2):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times[2:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", nargs="*", default=["bfloat16", "float16"], choices=list(_TYPES))
    parser.add_argument("--threads", nargs="*", type=int, default=[len(os.sched_getaffinity(0))])
    parser.add_argument("--repetitions", type=int, default=20)
    args = parser.parse_args()
    heads = Heads()
    print(f"{active_isa()}; {heads.layers} layers, {heads.queries} query heads on {heads.keys} of {heads.dim}")
    print(f"{'cache':<10}{'threads':>8}  {'step':<32}{'ms':>8}{'GB/s':>8}{'GFLOP/s':>9}")
    for cache in args.cache:
        for threads in args.threads:
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.register_custom_ops_library(str(library_path()))
            graph = model(heads, _TYPES[cache])
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            for step in STEPS:
                seconds = best_seconds(bound_step(step, heads, cache, session), args.repetitions)
                element = 4 if cache == "float32" else 2
                moved = step.keys_read() * 2 * heads.keys * heads.dim * element * heads.layers
                work = step.products() * heads.queries * heads.dim * 4 * heads.layers
                figures = f"{1e3 * seconds:>8.2f}{moved / seconds / 1e9:>8.1f}{work / seconds / 1e9:>9.0f}"
                print(f"{cache:<10}{threads:>8}  {step.name:<32}{figures}")


if __name__ == "__main__":
    main()
