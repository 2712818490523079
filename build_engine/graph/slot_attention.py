"""Attention over linear KV slots: positions and masks in the graph, caches by ``TensorScatter``."""

from __future__ import annotations

import numpy as np
import onnx

from build_engine.graph.builder import GraphBuilder
from build_engine.graph.element import Element
from build_engine.graph.slot_weights import ELEMENTS
from runtime.bundle.architecture import Architecture
from runtime.reference.attention import rotary_tables

_MASKED = -1e30


class SlotAttention:
    """Emits the attention of each layer, and once what all layers read.

    Args:
        architecture: Dimensions and options.
        graph: Takes the nodes.
        slot_tokens: Columns of a slot.
        element: Element type of queries, keys, values and caches.
    """

    def __init__(self, architecture: Architecture, graph: GraphBuilder, slot_tokens: int, element: Element) -> None:
        self._architecture = architecture
        self._graph = graph
        self._slot_tokens = slot_tokens
        self._element = element

    def declare(self) -> None:
        """Positions of the new tokens, rotary tables, shapes, and one mask for each width of window."""
        graph, architecture = self._graph, self._architecture
        dtype = ELEMENTS[self._element]
        tables = rotary_tables(
            architecture.rope_theta, architecture.rotary_dim, self._slot_tokens, architecture.rope_scaling
        )
        for name, table in zip(("rotary.cos", "rotary.sin"), tables, strict=True):
            graph.table(name, table.astype(dtype))
        self._positions()
        heads = architecture.num_heads + 2 * architecture.num_kv_heads
        self._constant("heads", [heads, architecture.head_dim])
        graph.node("Concat", ["token_ids.shape", "heads"], "shape.heads", axis=0)
        self._constant("shape.mixed", [-1, architecture.num_heads * architecture.head_dim])
        self._constant("split", [architecture.num_heads, architecture.num_kv_heads, architecture.num_kv_heads])
        self._masks()
        if architecture.attention_softcap:
            self._softcap_constants()

    def emit(self, layer: int, qkv: str, gains: tuple[str, str] | None) -> str:
        """One layer.

        Args:
            layer: Its index.
            qkv: Projections ``[B * S, (heads + 2 * kv_heads) * head_dim]``.
            gains: Of the norms of queries' and keys' heads, where the model has them.

        Returns:
            The mixed values ``[B * S, heads * head_dim]``.
        """
        graph, prefix = self._graph, f"layers.{layer}"
        rows = graph.node("Reshape", [qkv, "shape.heads"], f"{prefix}.heads")
        turned = graph.node("Transpose", [rows], f"{prefix}.turned", perm=[0, 2, 1, 3])
        parts = [f"{prefix}.{part}" for part in ("q", "k", "v")]
        graph.node("Split", [turned, "split"], parts, axis=1)
        query, key = (self._rotated(parts[index], gains[index] if gains else None) for index in range(2))
        keys, values = (
            graph.node("TensorScatter", [pool, update, "write_indices"], f"{pool}_out", axis=2)
            for pool, update in ((f"k_cache_{layer}", key), (f"v_cache_{layer}", parts[2]))
        )
        emit = self._capped if self._architecture.attention_softcap else self._fused
        mixed = emit(prefix, query, keys, values, _mask_name(self._architecture.window(layer)))
        back = graph.node("Transpose", [mixed], f"{prefix}.back", perm=[0, 2, 1, 3])
        return graph.node("Reshape", [back, "shape.mixed"], f"{prefix}.mixed")

    def _positions(self) -> None:
        """``write_indices[b] + s``: int64 ``[B, S]``."""
        graph = self._graph
        self._constant("one", [1])
        self._constant("zero.scalar", 0)
        self._constant("one.scalar", 1)
        graph.node("Shape", ["token_ids"], "token_ids.shape")
        graph.node("Shape", ["token_ids"], "new_tokens.axis", start=1, end=2)
        graph.node("Squeeze", ["new_tokens.axis"], "new_tokens")
        graph.node("Range", ["zero.scalar", "new_tokens", "one.scalar"], "offsets")
        graph.node("Unsqueeze", ["write_indices", "one"], "starts")
        graph.node("Add", ["starts", "offsets"], "positions")

    def _masks(self) -> None:
        """Bool ``[B, 1, S, slot_tokens]``: true where a token may look."""
        graph = self._graph
        self._constant("columns", np.arange(self._slot_tokens).reshape(1, 1, 1, -1).tolist())
        self._constant("mask.axes", [1, 3])
        graph.node("Unsqueeze", ["positions", "mask.axes"], "ends")
        graph.node("LessOrEqual", ["columns", "ends"], _mask_name(0))
        for window in sorted(set(self._architecture.sliding_windows) - {0}):
            self._constant(f"window.{window}", [window])
            graph.node("Sub", ["ends", f"window.{window}"], f"before.{window}")
            graph.node("Greater", ["columns", f"before.{window}"], f"inside.{window}")
            graph.node("And", [_mask_name(0), f"inside.{window}"], _mask_name(window))

    def _rotated(self, heads: str, gain: str | None) -> str:
        graph, architecture = self._graph, self._architecture
        if gain is not None:
            epsilon = float(architecture.norm_eps)
            heads = graph.node("RMSNormalization", [heads, gain], f"{heads}.normed", axis=-1, epsilon=epsilon)
        partial = architecture.rotary_dim if architecture.rotary_dim != architecture.head_dim else 0
        inputs = [heads, "rotary.cos", "rotary.sin", "positions"]
        return graph.node("RotaryEmbedding", inputs, f"{heads}.rotated", rotary_embedding_dim=partial)

    def _fused(self, prefix: str, query: str, keys: str, values: str, mask: str) -> str:
        scale = float(self._architecture.scale)
        return self._graph.node("Attention", [query, keys, values, mask], f"{prefix}.attended", scale=scale)

    def _softcap_constants(self) -> None:
        architecture, cap = self._architecture, self._architecture.attention_softcap
        self._constant("shape.grouped", [0, architecture.num_kv_heads, -1, architecture.head_dim])
        self._constant("shape.scores", [0, architecture.num_heads, -1, self._slot_tokens])
        self._constant("shape.grouped_scores", [0, architecture.num_kv_heads, -1, self._slot_tokens])
        self._constant("shape.attended", [0, architecture.num_heads, -1, architecture.head_dim])
        for name, value in (("cap", cap), ("masked", _MASKED)):
            self._graph.vector(f"softcap.{name}", np.array([value], np.float32))
        self._graph.vector("softcap.scale", np.array([architecture.scale]).astype(ELEMENTS[self._element]))

    def _capped(self, prefix: str, query: str, keys: str, values: str, mask: str) -> str:
        """Attention in single steps, the scores in float32.

        Query heads that share keys are taken for more rows of one head.

        NOTE: TensorRT's parser refuses the ``softcap`` of the Attention operator. Queries are scaled before the
        product, whose sums may be too large for float16.
        """
        graph = self._graph
        scaled = graph.node("Mul", [query, "softcap.scale"], f"{prefix}.scaled")
        grouped = graph.node("Reshape", [scaled, "shape.grouped"], f"{prefix}.grouped")
        turned = graph.node("Transpose", [keys], f"{prefix}.keys", perm=[0, 1, 3, 2])
        raw = self._cast(graph.node("MatMul", [grouped, turned], f"{prefix}.products"), "float32")
        scores = graph.node("Reshape", [raw, "shape.scores"], f"{prefix}.scores")
        shrunk = graph.node("Div", [scores, "softcap.cap"], f"{prefix}.shrunk")
        bent = graph.node("Tanh", [shrunk], f"{prefix}.bent")
        capped = graph.node("Mul", [bent, "softcap.cap"], f"{prefix}.capped")
        seen = graph.node("Where", [mask, capped, "softcap.masked"], f"{prefix}.seen")
        shares = self._cast(graph.node("Softmax", [seen], f"{prefix}.shares", axis=-1), self._element)
        shares = graph.node("Reshape", [shares, "shape.grouped_scores"], f"{prefix}.grouped_shares")
        mixed = graph.node("MatMul", [shares, values], f"{prefix}.grouped_mixed")
        return graph.node("Reshape", [mixed, "shape.attended"], f"{prefix}.attended")

    def _cast(self, value: str, element: Element) -> str:
        if self._element == "float32":
            return value
        code = onnx.helper.np_dtype_to_tensor_dtype(ELEMENTS[element])
        return self._graph.node("Cast", [value], f"{value}.{element}", to=code)

    def _constant(self, name: str, values: object) -> str:
        return self._graph.vector(name, np.array(values, np.int64))


def _mask_name(window: int) -> str:
    return f"mask.{window}" if window else "mask"
