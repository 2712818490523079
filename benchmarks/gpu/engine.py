"""A target's engine of a model: built, loaded, its tokens compared, its rates against the bandwidth floor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.gpu.agreement import compare, prompts_of
from benchmarks.gpu.findings import Findings, NotRunError, Settings
from benchmarks.gpu.rates import PROMPT, STEPS, decode_seconds, generate, prefill_seconds
from build_engine.build import build_bundle
from build_engine.checkpoint import Checkpoint
from build_engine.options import BuildOptions
from build_engine.slot_plan import slot_weight_bytes
from build_engine.sources import resolve_source
from runtime.bundle.gpu import Gpu, find_gpu
from runtime.bundle.manifest import Manifest
from runtime.bundle.manifest_file import read_manifest, write_manifest
from runtime.bundle.target import RTX_CAPABILITIES
from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine

SLOTS = 32
SEQUENCE = 1024
CHUNK = 256
STREAMS = (1, 2, 4, 8, 16, 32)
NEW_TOKENS = 32
LONG_PROMPT = 768


def measure(settings: Settings, findings: Findings, target: str) -> None:
    """The whole way of an engine.

    Raises:
        Exception: Whatever fails first.
    """
    gpu = find_gpu()
    checkpoint = resolve_source(settings.model).open()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as directory:
        bundle = Path(directory) / "bundle"
        options = BuildOptions(
            target=target,
            kv="linear" if target == "cpu" else None,
            slots=SLOTS,
            max_seq_len=None if target == "cuda" else SEQUENCE,
            chunk=CHUNK,
            compute_capabilities=nearest(gpu) if target == "tensorrt-rtx" and isinstance(gpu, Gpu) else None,
            output=bundle,
            verify=False,
        )
        manifest = read_manifest(build_bundle(settings.model, options))
        findings.add(build=build_figures(manifest))
        release(bundle, manifest)
        core, lines = build_engine(EngineConfig(bundle=str(bundle), socket="", prefix_cache=False, max_running=SLOTS))
        findings.add(start=lines)
        measure_core(core, checkpoint, manifest, settings, findings)
        core.executor.close()


def nearest(gpu: Gpu) -> tuple[str]:
    """The GPU's compute capability, or the next lower one that TensorRT-RTX knows.

    Raises:
        NotRunError: It knows none as low.
    """
    own = _numbers(gpu.compute_capability)
    below = [name for name in RTX_CAPABILITIES if _numbers(name) <= own]
    if not below:
        message = f"{gpu.name} is of compute capability {gpu.compute_capability}; TensorRT-RTX begins at 7.5"
        raise NotRunError(message)
    return (max(below, key=_numbers),)


def release(bundle: Path, manifest: Manifest) -> None:
    """Have the plan tried on whatever GPU there is: what counts here is what TensorRT says, not what we expect."""
    if manifest.engine is not None and manifest.target == "tensorrt-rtx":
        record = msgspec.structs.replace(manifest.engine, compute_capabilities=())
        write_manifest(bundle, msgspec.structs.replace(manifest, engine=record))


def measure_core(
    core: EngineCore, checkpoint: Checkpoint, manifest: Manifest, settings: Settings, findings: Findings
) -> None:
    """Tokens and rates of an engine that is loaded.

    Raises:
        ArithmeticError: Its tokens are not the reference's.
        RequestFailedError: It gives up on a request.
    """
    prompts = prompts_of(checkpoint, 24)
    outputs = generate(core, prompts, NEW_TOKENS)
    findings.add(greedy=compare(checkpoint, prompts, outputs))
    sizes = [size for size in STREAMS if size <= core.limits.max_running]
    decode_seconds(core, sizes[-1])
    decode: dict[str, Any] = {}
    for streams in sizes:
        decode[str(streams)] = decode_figures(
            decode_seconds(core, streams), streams, step_bytes(checkpoint, manifest, streams), settings
        )
        findings.add(decode=decode)
    length = min(LONG_PROMPT, core.limits.max_request_tokens - 1)
    prefill_seconds(core, 2, length)
    rate = round(8 * length / prefill_seconds(core, 8, length))
    findings.add(prefill={"prompts": 8, "length": length, "tokens_s": rate})
    best = decode[str(sizes[-1])]
    findings.outcome.summary = (
        f"greedy tokens agree; {sizes[-1]} streams {best['tokens_s']} tokens/s, prefill {rate} tokens/s"
    )


def decode_figures(seconds: float, streams: int, nbytes: float, settings: Settings) -> dict[str, Any]:
    """Rates of a decode step beside the time that reading ``nbytes`` takes at the speed of a copy."""
    figures: dict[str, Any] = {
        "tokens_s": round(streams / seconds, 1),
        "step_ms": round(seconds * 1e3, 3),
        "bytes_read": round(nbytes),
    }
    if "copy_gb_s" in settings.ceilings:
        floor = nbytes / settings.ceilings["copy_gb_s"] / 1e9
        figures |= {"floor_ms": round(floor * 1e3, 3), "share_of_floor": round(floor / seconds, 3)}
    return figures


def step_bytes(checkpoint: Checkpoint, manifest: Manifest, streams: int) -> float:
    """Bytes that a decode step cannot but read: the weights, and the keys and values of its streams."""
    kv_bytes = checkpoint.architecture.kv_bytes_per_token(manifest.kv.element_bytes)
    precisions = {"q8-g32": "int8", "q4-g32": "int4"}
    weights = slot_weight_bytes(checkpoint, precisions.get(manifest.precision, manifest.precision))
    return weights + streams * (PROMPT + STEPS / 2) * kv_bytes


def build_figures(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says of the build."""
    figures: dict[str, Any] = {
        "versions": manifest.target_versions,
        "precision": manifest.precision,
        "seconds": manifest.build_seconds,
        "peak_bytes": manifest.build_peak_bytes,
    }
    if manifest.engine is not None:
        engine = manifest.engine
        figures |= {
            "plan_bytes": engine.plan_bytes,
            "compute_capabilities": list(engine.compute_capabilities),
            "layers": engine.layers,
        }
    return figures


def _numbers(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
