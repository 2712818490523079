"""The TensorRT targets: the slot graph compiled to a plan by ``tensorrt`` or ``tensorrt_rtx``.

TensorRT-RTX compiles on machines without a GPU, for GPUs that are named. Nothing here was run on a GPU, and full
TensorRT, whose libraries need one to compile at all, shares the code and is untried.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from build_engine.checkpoint import Checkpoint
from build_engine.errors import BuildError
from build_engine.graph import Progress
from build_engine.graph.element import Element
from build_engine.resources import peak_memory
from build_engine.targets.compiled import CompiledEngine
from build_engine.targets.slots import SlotOptions, slot_models
from build_engine.targets.tensorrt_network import (
    capabilities_of,
    check_layers,
    compile_plan,
    layer_counts,
    parse_network,
    shape_profiles,
)
from build_engine.targets.tensorrt_progress import PhaseProgress
from runtime.bundle.bundle import MODEL_FILE, PLAN_FILE, WEIGHT_FILE
from runtime.bundle.cache import cache_root
from runtime.bundle.gpu import find_gpu
from runtime.bundle.manifest import EngineRecord, ScoreVerification, Verification

Flavour = Literal["tensorrt", "tensorrt-rtx"]
Oracle = Callable[[Path], Verification | ScoreVerification]

_WITHOUT_BFLOAT16 = "7.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtOptions:
    """Choices of a TensorRT build.

    Attributes:
        flavour: Which package compiles.
        slots: Precision and shapes.
        compute_capabilities: GPUs to compile for, such as ``8.6``.
        keep_onnx: Leave the graph and its weights beside the plan.
    """

    flavour: Flavour
    slots: SlotOptions
    compute_capabilities: tuple[str, ...] = ()
    keep_onnx: bool = False


def compile_tensorrt(
    checkpoint: Checkpoint, directory: Path, options: TensorRtOptions, oracle: Oracle | None, progress: Progress
) -> CompiledEngine:
    """Writes ``engine.plan`` of a checkpoint into ``directory``.

    Args:
        checkpoint: The opened checkpoint.
        directory: An existing directory; the graph lies in it while it is compiled.
        options: Choices.
        oracle: Compares the graph in ``directory``, computed in float32 on the CPU, with the reference; ``None`` skips
            that.
        progress: Called as ``(stage, done, total)``.

    Raises:
        BuildError: The package is missing, a GPU cannot be compiled for, or TensorRT refuses the graph.
    """
    trt = load_tensorrt(options.flavour)
    element = compute_element(options.slots)
    check_capabilities(trt, options, element)
    elements: list[Element] = [element] if oracle is None else [element, "float32"]
    models, precision = slot_models(checkpoint, directory, options.slots, elements, progress)
    verification = None
    if oracle is not None:
        (directory / MODEL_FILE).write_bytes(models[1].SerializeToString())
        verification = oracle(directory)
    (directory / MODEL_FILE).write_bytes(models[0].SerializeToString())
    record = _compile(trt, checkpoint, directory, options, verification, progress)
    if not options.keep_onnx:
        for name in (MODEL_FILE, WEIGHT_FILE):
            (directory / name).unlink()
    return CompiledEngine(
        precision=precision,
        kv=options.slots.kv(element),
        target_versions={options.flavour: str(trt.__version__), "onnx": onnx.__version__},
        limits=options.slots.limits(),
        engine=record,
    )


def load_tensorrt(flavour: Flavour) -> Any:
    """The module.

    Raises:
        BuildError: It is not installed.
    """
    try:
        return importlib.import_module(flavour.replace("-", "_"))
    except ImportError:
        raise BuildError(
            f"target {flavour} needs the package {flavour}; install it with: pip install 'peregrine-llm[{flavour}]'"
        ) from None


def compute_element(options: SlotOptions) -> Element:
    """What the engine computes in: the type of float weights, else of what stands beside quantised ones."""
    floats: dict[str, Element] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    return floats.get(options.precision, options.element)


def check_capabilities(trt: Any, options: TensorRtOptions, element: Element) -> None:
    """See that the package compiles for what is asked.

    Raises:
        BuildError: It does not.
    """
    asked = options.compute_capabilities
    possible = capabilities_of(trt) or own_capability()
    for name in asked:
        if name not in possible:
            what = ", ".join(possible) or "the machine's own GPU, and there is none"
            raise BuildError(f"compute-capability {name}: {options.flavour} {trt.__version__} compiles for {what}")
    if element == "bfloat16" and _WITHOUT_BFLOAT16 in asked:
        raise BuildError(f"compute-capability {_WITHOUT_BFLOAT16}: has no bfloat16; build with --precision fp16")


def own_capability() -> tuple[str, ...]:
    """Of the machine's GPU, if there is one."""
    gpu = find_gpu()
    return () if isinstance(gpu, str) else (gpu.compute_capability,)


def timing_cache_file(flavour: Flavour, version: str) -> Path | None:
    """Where measured kernels are kept, by version and GPU; ``None`` where nothing is measured at build time."""
    gpu = find_gpu()
    if flavour == "tensorrt-rtx" or isinstance(gpu, str):
        return None
    return cache_root() / "timing" / f"{flavour}-{version}-{gpu.compute_capability}.bin"


def _compile(
    trt: Any,
    checkpoint: Checkpoint,
    directory: Path,
    options: TensorRtOptions,
    verification: Verification | ScoreVerification | None,
    progress: Progress,
) -> EngineRecord:
    started = time.monotonic()
    parsed = parse_network(trt, directory / MODEL_FILE)
    counts = layer_counts(parsed.network)
    check_layers(checkpoint.architecture, counts)
    profiles = shape_profiles(options.slots.slots, options.slots.chunk)
    phases, version = PhaseProgress(progress), str(trt.__version__)
    cache = timing_cache_file(options.flavour, version)
    ahead = options.compute_capabilities if capabilities_of(trt) else ()
    plan = compile_plan(trt, parsed, profiles, ahead, cache, phases)
    with (directory / PLAN_FILE).open("wb") as file:
        file.write(plan)
    phases.complete()
    gpu = find_gpu()
    return EngineRecord(
        flavour=options.flavour,
        version=version,
        compute_capabilities=options.compute_capabilities,
        layers=counts,
        profiles=profiles,
        plan_bytes=plan.nbytes,
        build_seconds=round(time.monotonic() - started, 3),
        peak_bytes=peak_memory(),
        verified=f"not run: {gpu}" if isinstance(gpu, str) else "not run at build time",
        oracle=verification,
    )
