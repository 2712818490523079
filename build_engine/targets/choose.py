"""From a profile to the target that compiles it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from build_engine.checkpoint import Checkpoint
from build_engine.graph import Progress
from build_engine.graph.slot_weights import SlotPrecision
from build_engine.options import TENSORRT_TARGETS, Profile, SlotShape
from build_engine.plan import BuildPlan
from build_engine.quantize import Precision
from build_engine.quantize.matrix import GROUP, ROTATED_GROUP
from build_engine.slot_plan import sequence_length, slot_element
from build_engine.targets.compiled import CompiledEngine
from build_engine.targets.cpu import CpuOptions, compile_cpu
from build_engine.targets.cuda import CudaOptions, CudaPrecision, compile_cuda
from build_engine.targets.slots import SlotOptions, compile_cpu_slots
from build_engine.targets.tensorrt import Flavour, TensorRtOptions, compile_tensorrt
from runtime.bundle.manifest import KvLayout, ScoreVerification, Verification

Check = Callable[[Path, KvLayout], Verification | ScoreVerification]


def compile_engine(
    checkpoint: Checkpoint,
    directory: Path,
    profile: Profile,
    plan: BuildPlan,
    check: Check | None,
    progress: Progress,
) -> CompiledEngine:
    """Compile ``checkpoint`` into ``directory``.

    Args:
        checkpoint: The opened checkpoint.
        directory: An empty directory.
        profile: What to compile for.
        plan: Has the precision that the profile comes to, and whether ``checkpoint`` is rotated.
        check: Compares a graph that onnxruntime runs on the CPU with the reference; a target whose engine cannot be run
            at build time uses it on what the engine is made of.
        progress: Called as ``(stage, done, total)``.

    Raises:
        BuildError: An option does not fit the checkpoint, or a compiler is missing or gives up.
    """
    if profile.target == "cuda":
        chosen = CudaOptions(
            precision=cast("CudaPrecision", plan.precision),
            element=slot_element(checkpoint, profile),
            block_size=profile.block_size,
        )
        return compile_cuda(checkpoint, directory, chosen, check, progress)
    if profile.linear is None:
        paged = CpuOptions(
            precision=cast("Precision", plan.precision),
            group=ROTATED_GROUP if plan.rotated else GROUP,
            kv_dtype=profile.kv_dtype,
            block_size=profile.block_size,
        )
        return compile_cpu(checkpoint, directory, paged, progress)
    options = _slot_options(checkpoint, profile, profile.linear, plan.precision)
    if profile.target not in TENSORRT_TARGETS:
        return compile_cpu_slots(checkpoint, directory, options, progress)
    compiled = TensorRtOptions(
        flavour=cast("Flavour", profile.target),
        slots=options,
        compute_capabilities=profile.linear.compute_capabilities,
        keep_onnx=profile.linear.keep_onnx,
    )
    oracle = None if check is None else lambda folder: check(folder, options.kv("float32"))
    return compile_tensorrt(checkpoint, directory, compiled, oracle, progress)


def _slot_options(checkpoint: Checkpoint, profile: Profile, shape: SlotShape, precision: str) -> SlotOptions:
    sequence = sequence_length(checkpoint.architecture, shape.max_seq_len)
    return SlotOptions(
        precision=cast("SlotPrecision", precision),
        element=slot_element(checkpoint, profile),
        slots=shape.slots,
        sequence=sequence,
        chunk=min(shape.chunk, sequence),
    )
