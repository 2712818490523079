"""The CPU target: stock ONNX Runtime plus native operators for linear layers and paged attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import onnxruntime

from build_engine.checkpoint import Checkpoint
from build_engine.graph import (
    DecoderGraph,
    FloatLinears,
    GraphBuilder,
    Linears,
    Progress,
    QuantLinears,
    WeightFile,
    fuse_norms,
)
from build_engine.quantize import Precision
from build_engine.targets.compiled import CompiledEngine
from runtime.bundle.bundle import MODEL_FILE, WEIGHT_FILE
from runtime.bundle.manifest import KvLayout


@dataclass(frozen=True, slots=True)
class CpuOptions:
    """Choices of a CPU build.

    Attributes:
        precision: ``import`` keeps the quantised blocks of a GGUF exactly and rounds its float and Q6_K matrices to
            ``int8``; ``int8`` and ``int4`` quantise weights in groups; ``fp32`` keeps everything in float32. Norms and
            biases are float32 always.
        group: Columns that share a scale where weights become ``int8`` and the columns allow it, and of the activations
            that meet them: 32, or 64 for models without outliers.
        kv_dtype: Element type of the KV cache.
        block_size: Tokens in a KV block.
    """

    precision: Precision = "import"
    group: Literal[32, 64] = 32
    kv_dtype: Literal["float16", "float32", "bfloat16"] = "bfloat16"
    block_size: int = 16


def compile_cpu(checkpoint: Checkpoint, directory: Path, options: CpuOptions, progress: Progress) -> CompiledEngine:
    """Writes ``model.onnx`` and ``weights.bin`` of a checkpoint into ``directory``.

    Weights are converted and written one fused matrix at a time, so that memory stays at a few times the largest one.

    Args:
        checkpoint: The opened checkpoint; its reader has checked names and shapes of the tensors.
        directory: An existing directory; files of these names are replaced.
        options: Precision and KV cache.
        progress: Called as ``(stage, done, total)``.

    Raises:
        BuildError: The precision does not fit the checkpoint.
    """
    kv = KvLayout(kind="paged", block_size=options.block_size, dtype=options.kv_dtype)
    linears: Linears = FloatLinears() if options.precision == "fp32" else QuantLinears(options.precision, options.group)
    with WeightFile(directory / WEIGHT_FILE) as weights:
        model = DecoderGraph(checkpoint, GraphBuilder(weights), linears, kv).build(progress)
    fuse_norms(model)
    (directory / MODEL_FILE).write_bytes(model.SerializeToString())
    return CompiledEngine(
        precision=linears.label,
        kv=kv,
        target_versions={"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
        limits={"context_length": checkpoint.architecture.context_length},
    )
