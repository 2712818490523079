"""The decoder graph over linear KV slots, in standard operators of opset 24.

onnxruntime's CPU provider runs it, and TensorRT's parser makes KV_CACHE_UPDATE, ATTENTION and ROTARY_EMBEDDING layers
of it. It is computed in one element type from the embedding to the logits, as TensorRT's strongly typed networks are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from build_engine.checkpoint import Checkpoint
from build_engine.graph.builder import GraphBuilder
from build_engine.graph.element import Element
from build_engine.graph.heads import declare_head
from build_engine.graph.layers import DecoderLayers
from build_engine.graph.names import layer_name
from build_engine.graph.slot_attention import SlotAttention
from build_engine.graph.slot_weights import ELEMENTS, SlotLinears, SlotWeights

SLOT_OPSET = 24


class SlotGraph(DecoderLayers):
    """Builds the graph of one checkpoint.

    Inputs: ``token_ids`` int64 ``[B, S]``, ``write_indices`` int64 ``[B]`` (tokens of each slot that are in the cache),
    ``logits_rows`` int64 ``[R]`` (rows of the flattened ``[B * S]``) and, for each layer ``l``, ``k_cache_{l}`` and
    ``v_cache_{l}`` ``[B, kv_heads, slot_tokens, head_dim]``. Outputs: ``logits`` float32 ``[R, V]``, or of a reward
    model ``score`` float32 ``[R]``, and the caches again as ``k_cache_{l}_out`` and ``v_cache_{l}_out``, which have to
    be bound to the buffers of the inputs.

    Token ``s`` of row ``b`` stands at position ``write_indices[b] + s`` and sees no column behind its own, so that
    whatever lies behind a slot's end is harmless.

    Args:
        checkpoint: The model.
        weights: Where its matrices are stored, and in which precision.
        graph: Made for `SLOT_OPSET`.
        slot_tokens: Columns of a slot.
        element: What everything between embedding and logits is computed in, caches included.
    """

    def __init__(
        self, checkpoint: Checkpoint, weights: SlotWeights, graph: GraphBuilder, slot_tokens: int, element: Element
    ) -> None:
        self._slot_linears = SlotLinears(weights, element)
        super().__init__(checkpoint, graph, self._slot_linears)
        self._slot_tokens = slot_tokens
        self._element: Element = element
        self._dtype = ELEMENTS[element]
        self._slots = SlotAttention(self._architecture, graph, slot_tokens, element)

    def _declare_inputs(self) -> None:
        graph = self._graph
        graph.input("token_ids", np.int64, ["batch", "tokens"])
        graph.input("write_indices", np.int64, ["batch"])
        graph.input("logits_rows", np.int64, ["rows"])
        self._slots.declare()

    def _pool_shape(self) -> tuple[npt.DTypeLike, list[int | str]]:
        architecture = self._architecture
        return self._dtype, ["batch", architecture.num_kv_heads, self._slot_tokens, architecture.head_dim]

    def _embedding(self) -> str:
        rows = super()._embedding()
        width = self._graph.vector("shape.rows", np.array([-1, self._architecture.hidden_size], np.int64))
        return self._graph.node("Reshape", [rows, width], "embedding.rows")

    def _attention(self, layer: int, qkv: str) -> str:
        gains = None
        if self._architecture.qk_norm:
            names = [layer_name(layer, f"self_attn.{part}_norm.weight") for part in "qk"]
            gains = (self._gain(names[0]), self._gain(names[1]))
        return self._slots.emit(layer, qkv, gains)

    def _gated_activation(self, layer: int, gate_up: str) -> str:
        graph, prefix = self._graph, f"layers.{layer}"
        gate, up = f"{prefix}.gate", f"{prefix}.up"
        graph.node("Split", [gate_up], [gate, up], axis=1, num_outputs=2)
        if self._architecture.activation == "silu":
            activated = graph.node("Swish", [gate], f"{prefix}.activated")
        else:
            activated = graph.node("Gelu", [gate], f"{prefix}.activated", approximate="tanh")
        return graph.node("Mul", [activated, up], f"{prefix}.gated")

    def _norm(self, x: str, weight: str) -> str:
        epsilon = float(self._architecture.norm_eps)
        return self._graph.node("RMSNormalization", [x, self._gain(weight)], f"{weight}.out", axis=-1, epsilon=epsilon)

    def _add_norm(self, residual: str, branch: str, weight: str) -> tuple[str, str]:
        total = self._graph.node("Add", [residual, branch], f"{weight}.in")
        return self._norm(total, weight), total

    def _head(self, normed: str) -> None:
        if self._architecture.score_head is not None and self._element != "float32":
            normed = self._graph.node("Cast", [normed], "final.float32", to=onnx.TensorProto.FLOAT)
        declare_head(self._graph, self._checkpoint, self._slot_linears.head(), normed)

    def _scalar(self, name: str, value: float) -> str:
        return self._graph.vector(name, np.array([value]).astype(self._dtype))

    def _gain(self, name: str) -> str:
        return self._graph.vector(name, self._vector(name).astype(self._dtype))
