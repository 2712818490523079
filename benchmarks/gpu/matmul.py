"""Float16 matrix products as ONNX Runtime's CUDA provider does them (cuBLAS): the rate that an engine may hope for."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu.findings import Findings, NotRunError, Settings
from benchmarks.kernels import best_seconds

SIZE = 8192


def measure(settings: Settings, findings: Findings) -> None:
    """The rate.

    Raises:
        NotRunError: The provider is not there.
    """
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        message = f"onnxruntime {ort.__version__} has no CUDA provider; pip install 'peregrine-llm[cuda]' in its place"
        raise NotRunError(message)
    ort.preload_dlls()
    session = ort.InferenceSession(product(SIZE).SerializeToString(), providers=["CUDAExecutionProvider"])
    if "CUDAExecutionProvider" not in session.get_providers():
        message = "the CUDA provider's libraries cannot be loaded"
        raise NotRunError(message)
    binding = session.io_binding()
    left = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float16)
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(left, "cuda", 0))
    binding.bind_output("y", "cuda", 0)
    session.run_with_iobinding(binding)
    rate = 2 * SIZE**3 / best_seconds(lambda: session.run_with_iobinding(binding), 20) / 1e12
    share = settings.share("matrix_tflop_s", rate)
    findings.add(size=SIZE, tflop_s=round(rate, 1), share_of_matrix=share, version=ort.__version__)
    findings.outcome.summary = f"{rate:.0f} TFLOP/s for {SIZE} x {SIZE} x {SIZE}"


def product(size: int) -> onnx.ModelProto:
    """``y = x @ w``, float16."""
    weight = np.random.default_rng(1).standard_normal((size, size)).astype(np.float16)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [size, size])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
