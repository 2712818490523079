"""The CUDA target: ONNX Runtime's CUDA provider with ``com.microsoft.PagedAttention``.

The graph is checked against the operators' registered schemas and computed on the CPU; nothing here was run on a GPU.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import onnx
import onnxruntime

from build_engine.checkpoint import Checkpoint
from build_engine.errors import BuildError
from build_engine.graph import GraphBuilder, Progress, WeightFile
from build_engine.graph.cuda import CudaGraph, CudaOracleGraph
from build_engine.graph.cuda_linears import CudaLinears, NBitsWeights
from build_engine.graph.element import Element
from build_engine.graph.slot_weights import SlotWeights
from build_engine.quantize.symmetric import SymmetricPrecision
from build_engine.resources import peak_memory
from build_engine.targets.compiled import CompiledEngine
from runtime.bundle.architecture import Architecture
from runtime.bundle.bundle import MODEL_FILE, WEIGHT_FILE
from runtime.bundle.manifest import EngineRecord, KvLayout, ScoreVerification, Verification
from runtime.bundle.target import CUDA_CAPABILITY

CudaPrecision = Literal["fp16", "bf16", "int8", "int4", "import"]
Oracle = Callable[[Path, KvLayout], Verification | ScoreVerification]

ORDER = "block,token,kv_head,dim"
NOT_RUN = "was not run: this needs a GPU"

_ELEMENTS: dict[str, Element] = {"fp16": "float16", "bf16": "bfloat16"}
_PRECISIONS: dict[Element, Literal["fp16", "bf16"]] = {"float16": "fp16", "bfloat16": "bf16"}
_ORACLE_BLOCK = 16
_LARGEST_BLOCK = 1024
_LARGEST_HEAD = 256
_ROTARY_STEP = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaOptions:
    """Choices of a CUDA build.

    Attributes:
        precision: Of the layers' matrices. Quantised ones have groups of 32; embedding and head stay float.
        element: Of quantised engines: what everything else is stored in and computed in.
        block_size: Tokens in a KV block.
    """

    precision: CudaPrecision = "fp16"
    element: Element = "float16"
    block_size: int = 256

    @property
    def computed(self) -> Element:
        """What the engine computes in, its KV cache included."""
        return _ELEMENTS.get(self.precision, self.element)

    def kv(self) -> KvLayout:
        """The layout of the pools."""
        return KvLayout(kind="paged", block_size=self.block_size, dtype=self.computed, order=ORDER)


def compile_cuda(
    checkpoint: Checkpoint, directory: Path, options: CudaOptions, oracle: Oracle | None, progress: Progress
) -> CompiledEngine:
    """Writes ``model.onnx`` and ``weights.bin`` of a checkpoint into ``directory``.

    Args:
        checkpoint: The opened checkpoint.
        directory: An existing directory; files of these names are replaced.
        options: Choices.
        oracle: Compares the graph in ``directory``, computed in float32 on the CPU with the CPU target's attention,
            with the reference; ``None`` skips that.
        progress: Called as ``(stage, done, total)``.

    Raises:
        BuildError: The architecture has what the operators cannot take, or the precision does not fit.
    """
    started = time.monotonic()
    check_paged_attention(checkpoint.architecture, options.block_size)
    models, precision = _models(checkpoint, directory, options, progress, checked=oracle is not None)
    path, weights, found = directory / MODEL_FILE, directory / WEIGHT_FILE, None
    if oracle is not None:
        path.write_bytes(models[1].SerializeToString())
        found = oracle(directory, KvLayout(kind="paged", block_size=_ORACLE_BLOCK, dtype="float32"))
        os.truncate(weights, _extent(models[0]))
    path.write_bytes(models[0].SerializeToString())
    versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}
    return CompiledEngine(
        precision=precision,
        kv=options.kv(),
        target_versions=versions,
        limits={"context_length": checkpoint.architecture.context_length},
        engine=EngineRecord(
            flavour="onnxruntime",
            version=versions["onnxruntime"],
            compute_capabilities=("{}.{} and later".format(*CUDA_CAPABILITY),),
            layers=dict(Counter(node.op_type for node in models[0].graph.node)),
            profiles=(),
            plan_bytes=path.stat().st_size + weights.stat().st_size,
            build_seconds=round(time.monotonic() - started, 3),
            peak_bytes=peak_memory(),
            verified=NOT_RUN,
            oracle=found,
        ),
    )


def check_paged_attention(architecture: Architecture, block_size: int) -> None:
    """See that ``com.microsoft.PagedAttention`` and its FlashAttention kernel take the model.

    Raises:
        BuildError: They do not.
    """
    head, rotary = architecture.head_dim, architecture.rotary_dim
    least = 256 if head <= 64 else 128 if head <= 128 else 64
    if head % _ROTARY_STEP or head > _LARGEST_HEAD:
        raise BuildError(
            f"target cuda: heads of {head}; com.microsoft.PagedAttention takes multiples of {_ROTARY_STEP} up to "
            f"{_LARGEST_HEAD}"
        )
    if rotary % _ROTARY_STEP:
        raise BuildError(
            f"target cuda: {rotary} dimensions of each head rotate; com.microsoft.PagedAttention rotates multiples of "
            f"{_ROTARY_STEP}"
        )
    if block_size & (block_size - 1) or not least <= block_size <= _LARGEST_BLOCK:
        raise BuildError(
            f"block-size {block_size}: target cuda with heads of {head} needs a power of two from {least} to "
            f"{_LARGEST_BLOCK}"
        )


def _models(
    checkpoint: Checkpoint, directory: Path, options: CudaOptions, progress: Progress, *, checked: bool
) -> tuple[list[onnx.ModelProto], str]:
    """The graph, and the one to check it by; they share the weight file, in which the first one's parts come first."""
    element = options.computed
    with WeightFile(directory / WEIGHT_FILE) as file:
        floats = SlotWeights(file, _PRECISIONS[element], element)
        levels = None
        if options.precision not in _ELEMENTS:
            levels = NBitsWeights(file, cast("SymmetricPrecision", options.precision), element)
        linears = CudaLinears(floats, levels, element)
        made = CudaGraph(checkpoint, linears, GraphBuilder(file), options.block_size, element)
        models = [made.build(progress)]
        if checked:
            wide = CudaLinears(floats, levels, "float32")
            oracle = CudaOracleGraph(checkpoint, wide, GraphBuilder(file), _ORACLE_BLOCK)
            models.append(oracle.build(_silent))
        return models, linears.label


def _extent(model: onnx.ModelProto) -> int:
    """Bytes of the weight file up to the last that the model reads."""
    ends = [0]
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            ends.append(int(entries["offset"]) + int(entries["length"]))
    return max(ends)


def _silent(_: str, __: int, ___: int) -> None:
    pass
