"""Loads a TensorRT plan, or says in one message why this machine cannot run it.

The package is a parameter: ``tensorrt`` and ``tensorrt_rtx`` have the same names. No plan was run on a GPU yet.
"""

from __future__ import annotations

import importlib
import logging
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.bundle.errors import BundleError
from runtime.bundle.gpu import Gpu
from runtime.bundle.manifest import EngineRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine, and what has to live as long as it does.

    Attributes:
        trt: The package.
        engine: ``ICudaEngine``.
        runtime: ``IRuntime`` that made it.
        messages: Its logger, which keeps the last error.
    """

    trt: Any
    engine: Any
    runtime: Any
    messages: Any


def import_tensorrt(flavour: str) -> Any:
    """The package ``tensorrt`` or ``tensorrt-rtx``.

    Raises:
        BundleError: It is not installed, or its libraries cannot be loaded.
    """
    try:
        return importlib.import_module(flavour.replace("-", "_"))
    except (ImportError, OSError) as error:
        have = f"a bundle for target {flavour} needs the package {flavour}, which cannot be imported: {error}"
        raise BundleError(have, fix=f"pip install 'peregrine-llm[{flavour}]'") from None


def check_gpu(record: EngineRecord, gpu: Gpu | str, rebuild: str, instead: str = "") -> None:
    """See that this machine has a GPU that the plan was compiled for, before anything of it is loaded.

    NOTE: without a driver TensorRT does not fail to load a plan, it crashes.

    Args:
        record: The plan's, from the manifest.
        gpu: This machine's, or why there is none.
        rebuild: Command that builds the bundle anew.
        instead: Command that serves the model without a GPU.

    Raises:
        BundleError: It has none.
    """
    capabilities = " or ".join(record.compute_capabilities)
    need = f"a GPU of compute capability {capabilities}" if capabilities else "the GPU that the bundle was built on"
    if isinstance(gpu, str):
        raise BundleError(f"a bundle for target {record.flavour}: this machine has {gpu}", need=need, fix=instead)
    if record.compute_capabilities and gpu.compute_capability not in record.compute_capabilities:
        have = f"{gpu.name} is of compute capability {gpu.compute_capability}"
        raise BundleError(have, need=need, fix=f"{rebuild} --compute-capability {gpu.compute_capability}")


def check_version(record: EngineRecord, version: str, rebuild: str) -> None:
    """See that the installed package is the one that compiled the plan.

    Raises:
        BundleError: It is of another version.
    """
    if version != record.version:
        have = f"{record.flavour} {version} is installed, and the plan is of version {record.version}"
        fix = f"pip install {record.flavour}=={record.version}, or {rebuild}"
        raise BundleError(have, need="the version that compiled it", fix=fix)


def load_plan(trt: Any, path: Path) -> Plan:
    """Make the plan in ``path`` an engine on the current context's GPU.

    Raises:
        BundleError: TensorRT refuses it.
    """
    messages = _make_messages(trt)
    runtime = trt.Runtime(messages)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise BundleError(f"{path}: TensorRT {trt.__version__} cannot load the plan: {messages.said()}")
    return Plan(trt, engine, runtime, messages)


def _make_messages(trt: Any) -> Any:
    class Messages(trt.ILogger):  # type: ignore[misc]  # the package is a parameter
        """Hands warnings and errors to the log, and keeps the last error for ours."""

        def __init__(self) -> None:
            super().__init__()
            self.error = ""

        def log(self, severity: Any, message: str) -> None:
            text = " ".join(message.split())
            if severity <= trt.ILogger.Severity.ERROR:
                self.error = text
                log.error("TensorRT: %s", text)
            elif severity <= trt.ILogger.Severity.WARNING:
                log.warning("TensorRT: %s", text)

        def said(self) -> str:
            return self.error or "it says no more"

    return Messages()
