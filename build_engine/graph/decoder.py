"""The decoder graph with packed tokens and a paged KV cache: the step contract of the ONNX Runtime targets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import Checkpoint
from build_engine.graph.builder import MICROSOFT, PEREGRINE, GraphBuilder
from build_engine.graph.heads import declare_head
from build_engine.graph.layers import GATE_UP, DecoderLayers
from build_engine.graph.linear import Linears, QuantLinears
from build_engine.graph.names import layer_name
from build_engine.graph.slot_weights import ELEMENTS
from build_engine.quantize import GROUP
from runtime.bundle.manifest import KvLayout
from runtime.reference.attention import rotary_tables


class DecoderGraph(DecoderLayers):
    """Builds the graph of one checkpoint.

    Inputs: ``token_ids`` int64 ``[T]``, ``cu_seqlens`` int32 ``[B+1]``, ``past_lens`` int32 ``[B]``, ``block_table``
    int32 ``[B, M]``, ``logits_rows`` int64 ``[R]`` and, for each layer ``l``, the pools ``k_cache_{l}`` and
    ``v_cache_{l}`` ``[num_blocks, kv_heads, block_size, head_dim]``. Outputs: ``logits`` float32 ``[R, V]``, or of a
    reward model ``score`` float32 ``[R]``, and the pools again as ``k_cache_{l}_out`` and ``v_cache_{l}_out``, which
    have to be bound to the buffers of the inputs.
    """

    def __init__(self, checkpoint: Checkpoint, graph: GraphBuilder, linears: Linears, kv: KvLayout) -> None:
        super().__init__(checkpoint, graph, linears)
        self._kv = kv

    def _declare_inputs(self) -> None:
        graph, architecture = self._graph, self._architecture
        graph.input("token_ids", np.int64, ["tokens"])
        graph.input("cu_seqlens", np.int32, ["sequences_plus_one"])
        graph.input("past_lens", np.int32, ["sequences"])
        graph.input("block_table", np.int32, ["sequences", "max_blocks"])
        graph.input("logits_rows", np.int64, ["rows"])
        cos, sin = rotary_tables(
            architecture.rope_theta,
            architecture.rotary_dim,
            architecture.context_length,
            architecture.rope_scaling,
        )
        graph.table("rotary.cos", cos)
        graph.table("rotary.sin", sin)

    def _pool_shape(self) -> tuple[npt.DTypeLike, list[int | str]]:
        architecture = self._architecture
        shape: list[int | str] = ["blocks", architecture.num_kv_heads, self._kv.block_size, architecture.head_dim]
        return ELEMENTS[self._kv.dtype], shape

    def _attention(self, layer: int, qkv: str) -> str:
        architecture = self._architecture
        pools = [f"k_cache_{layer}", f"v_cache_{layer}"]
        inputs = [qkv, *pools, "cu_seqlens", "past_lens", "block_table", "rotary.cos", "rotary.sin"]
        if architecture.qk_norm:
            for part in ("self_attn.q_norm.weight", "self_attn.k_norm.weight"):
                name = layer_name(layer, part)
                inputs.append(self._graph.vector(name, self._vector(name)))
        return self._graph.node(
            "PagedAttention",
            inputs,
            [f"layers.{layer}.mixed", *(f"{pool}_out" for pool in pools)],
            PEREGRINE,
            num_heads=architecture.num_heads,
            kv_num_heads=architecture.num_kv_heads,
            head_dim=architecture.head_dim,
            scale=float(architecture.scale),
            sliding_window=architecture.window(layer),
            rotary_dim=architecture.rotary_dim,
            norm_eps=float(architecture.norm_eps),
            softcap=float(architecture.attention_softcap),
        )

    def _gated(self, layer: int, normed: str) -> str:
        architecture = self._architecture
        fits = architecture.activation == "silu" and architecture.intermediate_size % GROUP == 0
        if not fits or not isinstance(self._linears, QuantLinears):
            return super()._gated(layer, normed)
        tensors, bias = self._weights(layer, GATE_UP, architecture.mlp_bias)
        return self._linears.swiglu(self._graph, normed, tensors, bias, f"layers.{layer}.gated")

    def _gated_activation(self, layer: int, gate_up: str) -> str:
        graph, prefix = self._graph, f"layers.{layer}"
        if self._architecture.activation == "silu":
            return graph.node("SiluMul", [gate_up], f"{prefix}.gated", PEREGRINE)
        gate, up = f"{prefix}.gate", f"{prefix}.up"
        graph.node("Split", [gate_up], [gate, up], axis=1, num_outputs=2)
        activated = graph.node("Gelu", [gate], f"{prefix}.activated", approximate="tanh")
        return graph.node("Mul", [activated, up], f"{prefix}.gated")

    def _norm(self, x: str, weight: str) -> str:
        gain = self._graph.vector(weight, self._vector(weight))
        epsilon = float(self._architecture.norm_eps)
        # NOTE: an operator of ONNX Runtime's own in the standard domain: onnx.checker does not know it.
        return self._graph.node("SimplifiedLayerNormalization", [x, gain], f"{weight}.out", axis=-1, epsilon=epsilon)

    def _add_norm(self, residual: str, branch: str, weight: str) -> tuple[str, str]:
        gain = self._graph.vector(weight, self._vector(weight))
        normed, total = f"{weight}.out", f"{weight}.in"
        epsilon = float(self._architecture.norm_eps)
        outputs = [normed, "", "", total]
        self._graph.node(
            "SkipSimplifiedLayerNormalization", [residual, branch, gain], outputs, MICROSOFT, epsilon=epsilon
        )
        return normed, total

    def _head(self, normed: str) -> None:
        declare_head(self._graph, self._checkpoint, self._linears, normed)

    def _scalar(self, name: str, value: float) -> str:
        return self._graph.vector(name, np.array([value], np.float32))
