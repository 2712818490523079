"""What an engine's graph is made of, before and after ONNX Runtime's own optimisation."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort

from benchmarks.regression.engines import THREADS
from runtime.bundle.bundle import MODEL_FILE
from runtime.executors.ort_session import session_options
from runtime.native import library_path

_ELEMENT_BYTES = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.BFLOAT16: 2}


def built_nodes(bundle: Path) -> dict[str, int]:
    """Nodes by type in the graph that ``bundle`` holds."""
    return _nodes(bundle / MODEL_FILE)


def optimised_nodes(bundle: Path) -> dict[str, int]:
    """Nodes by type in the graph that runs, with the executor's own options."""
    options = session_options(threads=THREADS, spinning=False, custom_ops=library_path())
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(written)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        ort.InferenceSession(bundle / MODEL_FILE, options, providers=["CPUExecutionProvider"])
        return _nodes(written)


def kv_bytes_per_token(bundle: Path) -> int:
    """Bytes that a token takes in the caches that are the graph's inputs."""
    total = 0
    for value in onnx.load(bundle / MODEL_FILE, load_external_data=False).graph.input:
        if value.name.startswith(("k_cache_", "v_cache_")):
            tensor = value.type.tensor_type
            _, heads, _, dim = (size.dim_value for size in tensor.shape.dim)
            total += heads * dim * _ELEMENT_BYTES[tensor.elem_type]
    return total


def _nodes(model: Path) -> dict[str, int]:
    nodes = onnx.load(model, load_external_data=False).graph.node
    found = Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes)
    return dict(sorted(found.items())) | {"all": len(nodes)}
