"""The KV-cache plugins inside full TensorRT: one layer's attention as a network of the two, built, run and compared.

Its graph is computed by ONNX Runtime in the tests; the rest was never run, for want of TensorRT.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.gpu.attention import RAGGED, judge, random_inputs, spec_of
from benchmarks.gpu.findings import Findings, NotRunError, Settings
from benchmarks.gpu.paged import Batch
from build_engine.errors import BuildError
from build_engine.graph.builder import PEREGRINE
from build_engine.plugins.launch import scratch_width
from build_engine.plugins.onnx_nodes import attention_node, kv_write_node
from build_engine.plugins.quick import register_plugins
from build_engine.targets.tensorrt_network import parse_network
from runtime.bundle.gpu import Gpu, find_gpu
from runtime.cuda.cuda_device import open_device
from runtime.cuda.device import Device
from runtime.cuda.errors import CudaError
from runtime.executors.tensorrt_plan import load_plan
from runtime.reference.attention import rotary_tables

SPEC = spec_of("float16", 9, 3, 64)
STEP = ("cu_seqlens", "past_lens", "block_table")
POOLS = ("k_cache", "v_cache")
WRITTEN = ("k_cache_out", "v_cache_out")
QUERIES, MIXED, SCRATCH = "layer.queries", "layer.mixed", "layer.scratch"
ALIASED = {"k_cache_out": "k_cache", "v_cache_out": "v_cache", SCRATCH: "scratch"}
"""Outputs that lie where an input lies."""


def measure(_: Settings, findings: Findings) -> None:
    """Agreement with the reference.

    Raises:
        NotRunError: This TensorRT has no such plugins.
        Exception: Whatever fails first.
    """
    trt = importlib.import_module("tensorrt")
    try:
        plugin = importlib.import_module("tensorrt.plugin")
    except ImportError as error:
        raise NotRunError(f"tensorrt {trt.__version__} has no quickly deployable plugins: {error}") from None
    gpu = find_gpu()
    assert isinstance(gpu, Gpu)
    findings.add(version=str(trt.__version__))
    register_plugins(plugin, f"sm_{gpu.compute_capability.replace('.', '')}")
    batch = Batch.of(SPEC, RAGGED)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as directory:
        path = Path(directory) / "engine.plan"
        path.write_bytes(_compile(trt, layer(batch), Path(directory)))
        findings.add(plan_bytes=path.stat().st_size)
        device = open_device()
        findings.add(largest_error=run(device, load_plan(trt, path).engine, batch))
    findings.outcome.summary = "one layer of the two plugins is right"


def layer(batch: Batch) -> onnx.ModelProto:
    """The attention of one layer for steps of the batch's shape."""
    spec, half, single = batch.spec, TensorProto.FLOAT16, TensorProto.FLOAT
    nodes = [
        kv_write_node(spec, "qkv", POOLS, STEP, ("cos", "sin"), (), "layer"),
        attention_node(spec, QUERIES, WRITTEN, STEP, "scratch", "layer"),
    ]
    packed = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    scratch = (single, [len(batch.past_lens), scratch_width(spec)])
    inputs: dict[str, tuple[int, Any]] = {
        "qkv": (half, [batch.tokens, packed]),
        **dict.fromkeys(POOLS, (half, batch.pool_shape)),
        **{name: (TensorProto.INT32, getattr(batch, name).shape) for name in STEP},
        **dict.fromkeys(("cos", "sin"), (single, [batch.longest, spec.rotary_dim // 2])),
        "scratch": scratch,
    }
    outputs = {
        QUERIES: (half, [batch.tokens, spec.num_heads, spec.head_dim]),
        MIXED: (half, [batch.tokens, spec.num_heads * spec.head_dim]),
        **dict.fromkeys(WRITTEN, (half, batch.pool_shape)),
        SCRATCH: scratch,
    }
    before, after = (
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in group.items()]
        for group in (inputs, outputs)
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(PEREGRINE, 1)]
    return helper.make_model(helper.make_graph(nodes, "layer", before, after), opset_imports=opsets, ir_version=10)


def feeds(batch: Batch) -> dict[str, np.ndarray]:
    """The inputs of a step."""
    qkv, pools = random_inputs(batch)
    tables = rotary_tables(10000.0, batch.spec.rotary_dim, batch.longest)
    scratch = np.zeros((len(batch.past_lens), scratch_width(batch.spec)), dtype=np.float32)
    steps = {name: getattr(batch, name) for name in STEP}
    named = dict(zip((*POOLS, "cos", "sin"), (*pools, *tables), strict=True))
    return {"qkv": qkv, **named, **steps, "scratch": scratch}


def run(device: Device, engine: Any, batch: Batch) -> float:
    """Run the engine once; returns the largest error.

    Raises:
        CudaError: A call fails.
        ArithmeticError: A result is not the reference's.
    """
    stream, context, given = device.stream(), engine.create_execution_context(), feeds(batch)
    buffers = {name: device.allocate(array.nbytes) for name, array in given.items()}
    for name, array in given.items():
        stream.upload(buffers[name].address, array)
    spec = batch.spec
    queries = np.zeros((batch.tokens, spec.num_heads, spec.head_dim), dtype=np.float16)
    found = {QUERIES: queries, MIXED: np.zeros_like(queries)}
    buffers |= {name: device.allocate(array.nbytes) for name, array in found.items()}
    addresses = {name: buffer.address for name, buffer in buffers.items()}
    addresses |= {name: addresses[source] for name, source in ALIASED.items()}
    for name, address in addresses.items():
        if not context.set_tensor_address(name, address):
            raise CudaError(f"set_tensor_address of {name}", "", "refused")
    if not context.execute_async_v3(stream.handle):
        raise CudaError("execute_async_v3", "", "refused")
    found |= {name: np.zeros_like(given[source]) for name, source in zip(WRITTEN, POOLS, strict=True)}
    for name, array in found.items():
        stream.download(array, addresses[name])
    stream.synchronize()
    pools, written = ([arrays[name] for name in names] for arrays, names in ((given, POOLS), (found, WRITTEN)))
    return judge(batch, given["qkv"], pools, queries, found[MIXED], written)


def _compile(trt: Any, model: onnx.ModelProto, directory: Path) -> bytes:
    path = directory / "model.onnx"
    path.write_bytes(model.SerializeToString())
    parsed = parse_network(trt, path)
    config = parsed.builder.create_builder_config()
    config.set_preview_feature(trt.PreviewFeature.ALIASED_PLUGIN_IO_10_03, True)
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if plan is None:
        raise BuildError(f"tensorrt {trt.__version__} cannot compile the plugins: {'; '.join(parsed.log.errors[:3])}")
    return bytes(plan)
