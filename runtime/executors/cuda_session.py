"""A session on ONNX Runtime's CUDA provider, or one message that says why there can be none.

The package is a parameter, so that a stand-in can take its place; no session was opened on a GPU yet.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from runtime.bundle.errors import BundleError
from runtime.bundle.gpu import Gpu
from runtime.bundle.manifest import Manifest
from runtime.bundle.target import CUDA_CAPABILITY
from runtime.cuda.device import Stream

PROVIDER = "CUDAExecutionProvider"
_INSTALL = "pip uninstall onnxruntime, then pip install 'peregrine-llm[cuda]'"


def check_gpu(gpu: Gpu | str, rebuild: str) -> None:
    """See that there is a GPU for which PagedAttention has its fast kernels.

    Args:
        gpu: This machine's, or why there is none.
        rebuild: Command that builds the bundle for this machine.

    Raises:
        BundleError: There is none.
    """
    needed = "a GPU of compute capability {}.{} or later".format(*CUDA_CAPABILITY)
    if isinstance(gpu, str):
        raise BundleError(f"a bundle for target cuda: this machine has {gpu}", need=needed, fix=rebuild)
    if tuple(map(int, gpu.compute_capability.split("."))) < CUDA_CAPABILITY:
        have = f"a bundle for target cuda: {gpu.name} is of compute capability {gpu.compute_capability}"
        raise BundleError(have, need=needed, fix=rebuild)


def import_onnxruntime() -> Any:
    """The package.

    Raises:
        BundleError: It is not installed.
    """
    try:
        return importlib.import_module("onnxruntime")
    except (ImportError, OSError) as error:
        have = f"a bundle for target cuda: onnxruntime cannot be imported: {error}"
        raise BundleError(have, need="the package onnxruntime-gpu", fix=_INSTALL) from None


def check_package(ort: Any, manifest: Manifest) -> None:
    """See that the package has the CUDA provider and is no older than the one that the bundle was built with.

    Raises:
        BundleError: It is not so.
    """
    version = str(ort.__version__)
    if PROVIDER not in ort.get_available_providers():
        have = f"a bundle for target cuda: the onnxruntime {version} that is installed has no CUDA provider"
        raise BundleError(have, need="the package onnxruntime-gpu", fix=_INSTALL)
    built = manifest.target_versions.get("onnxruntime", "0")
    if _release(version) < _release(built):
        have = f"the onnxruntime {version} that is installed is older than the one that the bundle was built with"
        raise BundleError(have, need=f"onnxruntime-gpu {built}", fix=f"pip install 'onnxruntime-gpu>={built}'")


def open_session(ort: Any, model: Path, stream: Stream) -> Any:
    """A session that enqueues everything on ``stream``.

    Raises:
        BundleError: The package refuses the model, or the provider's libraries cannot be loaded.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # NOTE: shapes change every step; patterns would pile up
    options.log_severity_level = 3
    # NOTE: an operator without a CUDA kernel fails here, and does not quietly run on the CPU between two copies.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    provider = {
        "device_id": "0",
        "user_compute_stream": str(stream.handle),
        "arena_extend_strategy": "kSameAsRequested",
        # NOTE: sums of squares in float32; the faster kernel adds up halves.
        "enable_skip_layer_norm_strict_mode": "1",
    }
    ort.preload_dlls()
    try:
        session = ort.InferenceSession(model, options, providers=[(PROVIDER, provider)], enable_fallback=0)
    except Exception as error:
        # NOTE: the package's errors have no class in common.
        have = f"{model}: onnxruntime {ort.__version__} cannot load the engine: {first_line(error)}"
        raise BundleError(have, need="onnxruntime-gpu with its CUDA and cuDNN libraries", fix=_INSTALL) from error
    if PROVIDER not in session.get_providers():
        have = f"{model}: onnxruntime {ort.__version__} could not start its CUDA provider"
        raise BundleError(have, need="its CUDA and cuDNN libraries", fix=_INSTALL)
    return session


def run_options(ort: Any) -> Any:
    """Of runs that return when everything has been enqueued."""
    options = ort.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def first_line(error: Exception) -> str:
    """What the package says of an error, without its traceback."""
    return str(error).strip().split("\n", 1)[0]
