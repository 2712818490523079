"""The slot graph of a checkpoint, as ONNX: an engine for the CPU, and what TensorRT compiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from build_engine.checkpoint import Checkpoint
from build_engine.graph import GraphBuilder, Progress, WeightFile
from build_engine.graph.element import Element
from build_engine.graph.slot_weights import SlotPrecision, SlotWeights
from build_engine.graph.slots import SLOT_OPSET, SlotGraph
from build_engine.targets.compiled import CompiledEngine
from runtime.bundle.bundle import MODEL_FILE, WEIGHT_FILE
from runtime.bundle.manifest import KvLayout

_TILE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOptions:
    """Choices of an engine with linear slots.

    Attributes:
        precision: Of the layers' matrices.
        element: Of quantised engines: what the rest is stored in and, on a GPU, everything is computed in.
        slots: Sequences at once.
        sequence: Tokens that a sequence may have.
        chunk: Tokens of the longest prefill run.
    """

    precision: SlotPrecision
    element: Element
    slots: int
    sequence: int
    chunk: int

    @property
    def slot_tokens(self) -> int:
        """Columns of a slot: at least one beyond the longest sequence, where a parked slot writes."""
        return -(-(self.sequence + 1) // _TILE) * _TILE

    def kv(self, element: Element) -> KvLayout:
        """The layout of caches of ``element``."""
        return KvLayout(kind="linear", block_size=self.slot_tokens, dtype=element, order="slot,kv_head,token,dim")

    def limits(self) -> dict[str, int]:
        """For the manifest."""
        return {"slots": self.slots, "max_step_tokens": self.chunk, "context_length": self.sequence}


def slot_models(
    checkpoint: Checkpoint,
    directory: Path,
    options: SlotOptions,
    elements: Sequence[Element],
    progress: Progress,
) -> tuple[list[onnx.ModelProto], str]:
    """Writes the weight file, and returns a graph on it for each element type to compute in.

    Weights are converted and written one fused matrix at a time; the graphs share them.

    Returns:
        The models, not written, and the precision for the manifest.

    Raises:
        BuildError: The precision does not fit the checkpoint.
    """
    models = []
    with WeightFile(directory / WEIGHT_FILE) as file:
        weights = SlotWeights(file, options.precision, options.element)
        for index, element in enumerate(elements):
            graph = GraphBuilder(file, SLOT_OPSET)
            made = SlotGraph(checkpoint, weights, graph, options.slot_tokens, element)
            models.append(made.build(progress if index == 0 else _silent))
    return models, weights.label


def compile_cpu_slots(
    checkpoint: Checkpoint, directory: Path, options: SlotOptions, progress: Progress
) -> CompiledEngine:
    """Writes ``model.onnx`` and ``weights.bin``, computed in float32: the oracle of engines for GPUs.

    Raises:
        BuildError: The precision does not fit the checkpoint.
    """
    (model,), precision = slot_models(checkpoint, directory, options, ["float32"], progress)
    (directory / MODEL_FILE).write_bytes(model.SerializeToString())
    return CompiledEngine(
        precision=precision,
        kv=options.kv("float32"),
        target_versions={"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
        limits=options.limits(),
    )


def _silent(_: str, __: int, ___: int) -> None:
    pass
