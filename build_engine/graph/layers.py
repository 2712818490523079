"""What every decoder graph is: embedding, layers of attention and gated MLP on a residual stream, head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from build_engine.checkpoint import Checkpoint, CheckpointTensor
from build_engine.families.names import EMBEDDING, FINAL_NORM
from build_engine.graph.builder import GraphBuilder
from build_engine.graph.linear import Linears
from build_engine.graph.names import layer_name

Progress = Callable[[str, int, int], None]

_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
GATE_UP = ("mlp.gate_proj", "mlp.up_proj")


class DecoderLayers(ABC):
    """Builds the graph of one checkpoint; kinds of graphs differ in their inputs and operators.

    Tokens are packed: values between the layers are ``[T, ...]``, whatever the graph's inputs look like. The last layer
    computes keys and values of all tokens, but everything after its attention only for the input ``logits_rows``.
    """

    def __init__(self, checkpoint: Checkpoint, graph: GraphBuilder, linears: Linears) -> None:
        self._checkpoint = checkpoint
        self._architecture = checkpoint.architecture
        self._graph = graph
        self._linears = linears

    def build(self, progress: Progress) -> onnx.ModelProto:
        """Emits all nodes, streaming the weights, and returns the model."""
        architecture = self._architecture
        steps = architecture.num_layers + 1
        self._declare_inputs()
        residual = self._embedding()
        normed = self._norm(residual, layer_name(0, "input_layernorm.weight"))
        for layer in range(architecture.num_layers):
            progress("weights", layer, steps)
            normed, residual = self._layer(layer, normed, residual)
        progress("weights", architecture.num_layers, steps)
        self._head(normed)
        self._declare_pools()
        progress("weights", steps, steps)
        return self._graph.model(f"{architecture.family} decoder")

    @abstractmethod
    def _declare_inputs(self) -> None:
        """Declares the inputs of a step and the tables that all layers read."""

    @abstractmethod
    def _pool_shape(self) -> tuple[npt.DTypeLike, list[int | str]]:
        """Element type and shape of a layer's key or value cache."""

    @abstractmethod
    def _norm(self, x: str, weight: str) -> str:
        """RMSNorm of ``x`` ``[T, H]`` with the gain ``weight``."""

    @abstractmethod
    def _add_norm(self, residual: str, branch: str, weight: str) -> tuple[str, str]:
        """Adds ``branch`` to the residual stream; returns its RMSNorm and the sum."""

    @abstractmethod
    def _attention(self, layer: int, qkv: str) -> str:
        """From ``[T, (heads + 2 * kv_heads) * dim]`` to mixed values ``[T, heads * dim]``; fills the pools."""

    @abstractmethod
    def _gated_activation(self, layer: int, gate_up: str) -> str:
        """``act(gate) * up`` of the halves of ``gate_up`` ``[T, 2I]``."""

    @abstractmethod
    def _head(self, normed: str) -> None:
        """Logits or scores of the final norm's output, declared as the graph's first output."""

    @abstractmethod
    def _scalar(self, name: str, value: float) -> str:
        """A constant ``[1]`` of the residual stream's element type."""

    def _embedding(self) -> str:
        table, scale = self._checkpoint.tensors[EMBEDDING], self._architecture.embedding_scale
        rows = self._linears.embedding(self._graph, "token_ids", table, "embedding")
        if scale == 1.0:
            return rows
        return self._graph.node("Mul", [rows, self._scalar("embedding.scale", scale)], "embedding.scaled")

    def _declare_pools(self) -> None:
        dtype, shape = self._pool_shape()
        for layer in range(self._architecture.num_layers):
            for pool in (f"k_cache_{layer}", f"v_cache_{layer}"):
                self._graph.input(pool, dtype, shape)
                self._graph.output(f"{pool}_out", dtype, shape)

    def _layer(self, layer: int, normed: str, residual: str) -> tuple[str, str]:
        """One layer: takes and returns the normed input of a layer and the residual stream."""
        graph, architecture = self._graph, self._architecture
        last = layer == architecture.num_layers - 1
        qkv = self._linear(layer, normed, _QKV, architecture.attention_bias, "qkv")
        mixed = self._attention(layer, qkv)
        if last:
            mixed = graph.node("Gather", [mixed, "logits_rows"], "wanted.mixed", axis=0)
            residual = graph.node("Gather", [residual, "logits_rows"], "wanted.residual", axis=0)
        branch = self._linear(layer, mixed, ("self_attn.o_proj",), architecture.output_bias, "attention")
        branch = self._output_norm(layer, "self_attn", branch)
        normed, residual = self._add_norm(residual, branch, layer_name(layer, "post_attention_layernorm.weight"))
        activated = self._gated(layer, normed)
        branch = self._linear(layer, activated, ("mlp.down_proj",), architecture.mlp_bias, "mlp")
        branch = self._output_norm(layer, "mlp", branch)
        next_norm = FINAL_NORM if last else layer_name(layer + 1, "input_layernorm.weight")
        return self._add_norm(residual, branch, next_norm)

    def _gated(self, layer: int, normed: str) -> str:
        """``act(gate) * up`` of the MLP's products of ``normed`` ``[T, H]``: ``[T, I]``."""
        gate_up = self._linear(layer, normed, GATE_UP, self._architecture.mlp_bias, "gate_up")
        return self._gated_activation(layer, gate_up)

    def _linear(self, layer: int, x: str, parts: Sequence[str], bias: bool, output: str) -> str:
        tensors, values = self._weights(layer, parts, bias)
        return self._linears.linear(self._graph, x, tensors, values, f"layers.{layer}.{output}")

    def _weights(
        self, layer: int, parts: Sequence[str], bias: bool
    ) -> tuple[list[CheckpointTensor], npt.NDArray[np.float32] | None]:
        """Weights of projections, and their biases one after the other."""
        tensors = [self._checkpoint.tensors[layer_name(layer, f"{part}.weight")] for part in parts]
        if not bias:
            return tensors, None
        return tensors, np.concatenate([self._vector(layer_name(layer, f"{part}.bias")) for part in parts])

    def _output_norm(self, layer: int, part: str, branch: str) -> str:
        if not self._architecture.output_norms:
            return branch
        return self._norm(branch, layer_name(layer, f"{part}.output_norm.weight"))

    def _vector(self, name: str) -> npt.NDArray[np.float32]:
        return self._checkpoint.tensors[name].float32().reshape(-1)
