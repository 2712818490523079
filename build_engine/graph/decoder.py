"""The decoder-only graph of an `Architecture`, packed and ragged: the step contract of every ONNX Runtime target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from build_engine.checkpoint import Checkpoint
from build_engine.families.names import EMBEDDING, FINAL_NORM
from build_engine.graph.builder import MICROSOFT, PEREGRINE, GraphBuilder
from build_engine.graph.heads import declare_head
from build_engine.graph.linear import Linears
from build_engine.graph.names import layer_name
from runtime.bundle.manifest import KvLayout
from runtime.reference.attention import rotary_tables

Progress = Callable[[str, int, int], None]

_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATE_UP = ("mlp.gate_proj", "mlp.up_proj")


class DecoderGraph:
    """Builds the graph of one checkpoint.

    Inputs: ``token_ids`` int64 ``[T]``, ``cu_seqlens`` int32 ``[B+1]``, ``past_lens`` int32 ``[B]``, ``block_table``
    int32 ``[B, M]``, ``logits_rows`` int64 ``[R]`` and, for each layer ``l``, the pools ``k_cache_{l}`` and
    ``v_cache_{l}`` ``[num_blocks, kv_heads, block_size, head_dim]``. Outputs: ``logits`` float32 ``[R, V]``, or of a
    reward model ``score`` float32 ``[R]``, and the pools again as ``k_cache_{l}_out`` and ``v_cache_{l}_out``, which
    have to be bound to the buffers of the inputs.

    The last layer computes keys and values of all tokens, but everything after its attention only for
    ``logits_rows``.
    """

    def __init__(self, checkpoint: Checkpoint, graph: GraphBuilder, linears: Linears, kv: KvLayout) -> None:
        self._checkpoint = checkpoint
        self._architecture = checkpoint.architecture
        self._graph = graph
        self._linears = linears
        self._kv = kv

    def build(self, progress: Progress) -> onnx.ModelProto:
        """Emits all nodes, streaming the weights, and returns the model."""
        graph, architecture = self._graph, self._architecture
        self._declare_step_inputs()
        residual = self._embedding()
        normed = self._norm(residual, layer_name(0, "input_layernorm.weight"))
        for layer in range(architecture.num_layers):
            progress("weights", layer, architecture.num_layers + 1)
            normed, residual = self._layer(layer, normed, residual)
        progress("weights", architecture.num_layers, architecture.num_layers + 1)
        declare_head(graph, self._checkpoint, self._linears, normed)
        self._declare_pools()
        progress("weights", architecture.num_layers + 1, architecture.num_layers + 1)
        return graph.model(f"{architecture.family} decoder")

    def _declare_step_inputs(self) -> None:
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

    def _embedding(self) -> str:
        table, scale = self._checkpoint.tensors[EMBEDDING], self._architecture.embedding_scale
        rows = self._linears.embedding(self._graph, "token_ids", table, "embedding")
        if scale == 1.0:
            return rows
        factor = self._graph.vector("embedding.scale", np.array([scale], np.float32))
        return self._graph.node("Mul", [rows, factor], "embedding.scaled")

    def _declare_pools(self) -> None:
        architecture = self._architecture
        shape: list[int | str] = ["blocks", architecture.num_kv_heads, self._kv.block_size, architecture.head_dim]
        dtype = np.dtype(self._kv.dtype)
        for layer in range(architecture.num_layers):
            for pool in (f"k_cache_{layer}", f"v_cache_{layer}"):
                self._graph.input(pool, dtype, shape)
                self._graph.output(f"{pool}_out", dtype, shape)

    def _layer(self, layer: int, normed: str, residual: str) -> tuple[str, str]:
        """One layer: takes and returns the normed input of a layer and the residual stream."""
        graph, architecture = self._graph, self._architecture
        last = layer == architecture.num_layers - 1
        qkv = self._linear(layer, normed, _ATTENTION, architecture.attention_bias, "qkv")
        mixed = self._attention(layer, qkv)
        if last:
            mixed = graph.node("Gather", [mixed, "logits_rows"], "wanted.mixed", axis=0)
            residual = graph.node("Gather", [residual, "logits_rows"], "wanted.residual", axis=0)
        branch = self._linear(layer, mixed, ("self_attn.o_proj",), architecture.output_bias, "attention")
        branch = self._output_norm(layer, "self_attn", branch)
        normed, residual = self._add_norm(residual, branch, layer_name(layer, "post_attention_layernorm.weight"))
        gate_up = self._linear(layer, normed, _GATE_UP, architecture.mlp_bias, "gate_up")
        activated = self._gated_activation(layer, gate_up)
        branch = self._linear(layer, activated, ("mlp.down_proj",), architecture.mlp_bias, "mlp")
        branch = self._output_norm(layer, "mlp", branch)
        next_norm = FINAL_NORM if last else layer_name(layer + 1, "input_layernorm.weight")
        return self._add_norm(residual, branch, next_norm)

    def _linear(self, layer: int, x: str, parts: Sequence[str], bias: bool, output: str) -> str:
        tensors = [self._checkpoint.tensors[layer_name(layer, f"{part}.weight")] for part in parts]
        values = None
        if bias:
            values = np.concatenate([self._vector(layer_name(layer, f"{part}.bias")) for part in parts])
        return self._linears.linear(self._graph, x, tensors, values, f"layers.{layer}.{output}")

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

    def _gated_activation(self, layer: int, gate_up: str) -> str:
        """``act(gate) * up`` of the halves of ``gate_up`` ``[T, 2I]``."""
        graph, prefix = self._graph, f"layers.{layer}"
        if self._architecture.activation == "silu":
            return graph.node("SiluMul", [gate_up], f"{prefix}.gated", PEREGRINE)
        gate, up = f"{prefix}.gate", f"{prefix}.up"
        graph.node("Split", [gate_up], [gate, up], axis=1, num_outputs=2)
        activated = graph.node("Gelu", [gate], f"{prefix}.activated", approximate="tanh")
        return graph.node("Mul", [activated, up], f"{prefix}.gated")

    def _output_norm(self, layer: int, part: str, branch: str) -> str:
        if not self._architecture.output_norms:
            return branch
        return self._norm(branch, layer_name(layer, f"{part}.output_norm.weight"))

    def _norm(self, x: str, weight: str) -> str:
        gain = self._graph.vector(weight, self._vector(weight))
        epsilon = float(self._architecture.norm_eps)
        # NOTE: an operator of ONNX Runtime's own in the standard domain: onnx.checker does not know it.
        return self._graph.node("SimplifiedLayerNormalization", [x, gain], f"{weight}.out", axis=-1, epsilon=epsilon)

    def _add_norm(self, residual: str, branch: str, weight: str) -> tuple[str, str]:
        """Adds ``branch`` to the residual stream; returns its RMSNorm and the sum."""
        gain = self._graph.vector(weight, self._vector(weight))
        normed, total = f"{weight}.out", f"{weight}.in"
        epsilon = float(self._architecture.norm_eps)
        outputs = [normed, "", "", total]
        self._graph.node(
            "SkipSimplifiedLayerNormalization", [residual, branch, gain], outputs, MICROSOFT, epsilon=epsilon
        )
        return normed, total

    def _vector(self, name: str) -> npt.NDArray[np.float32]:
        return self._checkpoint.tensors[name].float32().reshape(-1)
