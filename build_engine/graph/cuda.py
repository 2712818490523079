"""The packed, paged decoder graph in operators of ONNX Runtime's CUDA provider.

Every operator here has CUDA kernels for float16 and bfloat16, by ONNX Runtime's sources; none was run on a GPU yet.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from build_engine.checkpoint import Checkpoint
from build_engine.graph.builder import MICROSOFT, PEREGRINE, GraphBuilder
from build_engine.graph.cuda_linears import CudaLinears
from build_engine.graph.element import Element
from build_engine.graph.heads import declare_head
from build_engine.graph.layers import DecoderLayers
from build_engine.graph.names import layer_name
from build_engine.graph.slot_weights import ELEMENTS
from runtime.reference.attention import rotary_tables

BOUNDS = "attention_bounds"


class CudaGraph(DecoderLayers):
    """Builds the graph of one checkpoint.

    Inputs: ``token_ids`` int64 ``[T]``, ``cu_seqlens`` int32 ``[B+1]``, ``past_lens`` int32 ``[B]``, ``block_table``
    int32 ``[B, M]``, ``logits_rows`` int64 ``[R]``; ``attention_bounds`` int32 ``[2]`` in host memory, no less than any
    sequence's new tokens and than its tokens in all; and, for each layer ``l``, the pools ``k_cache_{l}`` and
    ``v_cache_{l}`` ``[num_blocks, block_size, kv_heads, head_dim]``. Outputs: ``logits`` float32 ``[R, V]``, or of a
    reward model ``score`` float32 ``[R]``, and the pools again as ``k_cache_{l}_out`` and ``v_cache_{l}_out``, which
    have to be bound to the buffers of the inputs.

    Args:
        checkpoint: The model; ``check_paged_attention`` of the target says which fit.
        linears: Where its matrices are stored, and in which precision.
        graph: Takes the nodes.
        block_size: Tokens in a KV block.
        element: What everything between embedding and logits is computed in, pools included.
    """

    def __init__(
        self, checkpoint: Checkpoint, linears: CudaLinears, graph: GraphBuilder, block_size: int, element: Element
    ) -> None:
        super().__init__(checkpoint, graph, linears)
        self._head_linears = linears.head()
        self._block_size = block_size
        self._element: Element = element
        self._dtype = ELEMENTS[element]

    def _declare_inputs(self) -> None:
        graph, architecture = self._graph, self._architecture
        graph.input("token_ids", np.int64, ["tokens"])
        graph.input("cu_seqlens", np.int32, ["sequences_plus_one"])
        graph.input("past_lens", np.int32, ["sequences"])
        graph.input("block_table", np.int32, ["sequences", "max_blocks"])
        graph.input("logits_rows", np.int64, ["rows"])
        self._declare_bounds()
        tables = rotary_tables(
            architecture.rope_theta, architecture.rotary_dim, architecture.context_length, architecture.rope_scaling
        )
        for name, table in zip(("rotary.cos", "rotary.sin"), tables, strict=True):
            graph.table(name, table.astype(self._dtype))

    def _declare_bounds(self) -> None:
        # NOTE: without bounds the operator may copy lengths back from the GPU, and wait for them, in every layer.
        self._graph.input(BOUNDS, np.int32, [2])

    def _pool_shape(self) -> tuple[npt.DTypeLike, list[int | str]]:
        architecture = self._architecture
        return self._dtype, ["blocks", self._block_size, architecture.num_kv_heads, architecture.head_dim]

    def _attention(self, layer: int, qkv: str) -> str:
        architecture = self._architecture
        pools = [f"k_cache_{layer}", f"v_cache_{layer}"]
        unused = ""
        return self._graph.node(
            "PagedAttention",
            [
                *(qkv, unused, unused),  # query, key and value in one
                *(*pools, "cu_seqlens", "past_lens", "block_table", "rotary.cos", "rotary.sin"),
                *(unused, unused),  # slot_mapping, head_sink
                *(self._head_gains(layer) or (unused, unused)),
                *(unused, unused),  # k_scale, v_scale
                BOUNDS,
            ],
            [f"layers.{layer}.mixed", *(f"{pool}_out" for pool in pools)],
            MICROSOFT,
            num_heads=architecture.num_heads,
            kv_num_heads=architecture.num_kv_heads,
            scale=float(architecture.scale),
            softcap=float(architecture.attention_softcap),
            local_window_size=architecture.window(layer) or -1,
            do_rotary=1,
            qk_norm_epsilon=float(architecture.norm_eps),
        )

    def _head_gains(self, layer: int) -> tuple[str, ...]:
        """Gains of the RMSNorms over heads of Q and of K, where the model has them."""
        if not self._architecture.qk_norm:
            return ()
        return tuple(self._gain(layer_name(layer, f"self_attn.{part}_norm.weight")) for part in "qk")

    def _gated_activation(self, layer: int, gate_up: str) -> str:
        graph, prefix = self._graph, f"layers.{layer}"
        gate, up = f"{prefix}.gate", f"{prefix}.up"
        graph.node("Split", [gate_up], [gate, up], axis=1, num_outputs=2)
        if self._architecture.activation == "silu":
            # NOTE: x * sigmoid(alpha * x); Swish itself has no CUDA kernel.
            activated = graph.node("QuickGelu", [gate], f"{prefix}.activated", MICROSOFT, alpha=1.0)
        else:
            activated = graph.node("FastGelu", [gate], f"{prefix}.activated", MICROSOFT)  # the one with tanh
        return graph.node("Mul", [activated, up], f"{prefix}.gated")

    def _norm(self, x: str, weight: str) -> str:
        epsilon = float(self._architecture.norm_eps)
        # NOTE: an operator of ONNX Runtime's own in the standard domain: onnx.checker does not know it.
        return self._graph.node(
            "SimplifiedLayerNormalization", [x, self._gain(weight)], f"{weight}.out", axis=-1, epsilon=epsilon
        )

    def _add_norm(self, residual: str, branch: str, weight: str) -> tuple[str, str]:
        normed, total = f"{weight}.out", f"{weight}.in"
        self._graph.node(
            "SkipSimplifiedLayerNormalization",
            [residual, branch, self._gain(weight)],
            [normed, "", "", total],
            MICROSOFT,
            epsilon=float(self._architecture.norm_eps),
        )
        return normed, total

    def _head(self, normed: str) -> None:
        if self._architecture.score_head is not None and self._element != "float32":
            normed = self._graph.node("Cast", [normed], "final.float32", to=onnx.TensorProto.FLOAT)
        declare_head(self._graph, self._checkpoint, self._head_linears, normed)

    def _scalar(self, name: str, value: float) -> str:
        return self._graph.vector(name, np.array([value]).astype(self._dtype))

    def _gain(self, name: str) -> str:
        return self._graph.vector(name, self._vector(name).astype(self._dtype))


class CudaOracleGraph(CudaGraph):
    """The same graph in float32 for ONNX Runtime's CPU provider, on the same weights.

    Its attention is the operator of the CPU target, and so is the layout of its pools:
    ``[num_blocks, kv_heads, block_size, head_dim]``. It has no ``attention_bounds``.
    """

    def __init__(self, checkpoint: Checkpoint, linears: CudaLinears, graph: GraphBuilder, block_size: int) -> None:
        super().__init__(checkpoint, linears, graph, block_size, "float32")

    def _declare_bounds(self) -> None:
        pass

    def _pool_shape(self) -> tuple[npt.DTypeLike, list[int | str]]:
        architecture = self._architecture
        return self._dtype, ["blocks", architecture.num_kv_heads, self._block_size, architecture.head_dim]

    def _attention(self, layer: int, qkv: str) -> str:
        architecture = self._architecture
        pools = [f"k_cache_{layer}", f"v_cache_{layer}"]
        tables = ["cu_seqlens", "past_lens", "block_table", "rotary.cos", "rotary.sin"]
        return self._graph.node(
            "PagedAttention",
            [qkv, *pools, *tables, *self._head_gains(layer)],
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
