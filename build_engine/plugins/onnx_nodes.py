"""The plugins as ONNX nodes, and a model in which those nodes have bodies, so that any ONNX runtime computes them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from build_engine.graph.builder import PEREGRINE
from build_engine.plugins.onnx_functions import attention_function, kv_write_function
from build_engine.plugins.quick import ATTENTION, KV_WRITE, KV_WRITE_NORM, NAMESPACE
from build_engine.plugins.spec import AttentionSpec


def kv_write_node(
    spec: AttentionSpec,
    qkv: str,
    pools: tuple[str, str],
    step: Sequence[str],
    tables: tuple[str, str],
    norms: Sequence[str],
    prefix: str,
) -> onnx.NodeProto:
    """Norms, rotates and caches the new tokens.

    Args:
        spec: Of the layer.
        qkv: ``[T, (num_heads + 2 * num_kv_heads) * head_dim]``.
        pools: Keys and values, ``[blocks, num_kv_heads, block_size, head_dim]``.
        step: ``cu_seqlens``, ``past_lens``, ``block_table``.
        tables: Rotary cosines and sines, float32 ``[positions, rotary_dim / 2]``.
        norms: Float32 gains of Q and K where ``spec.qk_norm``, else none.
        prefix: Of the outputs' names: ``{prefix}.queries``, and the pools at their inputs' addresses,
            ``{pool}_out``.
    """
    outputs = [f"{prefix}.queries", *(f"{pool}_out" for pool in pools)]
    return _node(KV_WRITE_NORM if norms else KV_WRITE, spec, [qkv, *pools, *step, *tables, *norms], outputs)


def attention_node(
    spec: AttentionSpec, queries: str, pools: tuple[str, str], step: Sequence[str], scratch: str, prefix: str
) -> onnx.NodeProto:
    """Attends over the cache.

    Args:
        spec: Of the layer.
        queries: ``[T, num_heads, head_dim]`` of ``kv_write_node``.
        pools: Its pools.
        step: ``cu_seqlens``, ``past_lens``, ``block_table``.
        scratch: Float32 ``[B, scratch_width(spec)]``, zeros at first; the layers pass it on.
        prefix: Of the outputs' names: ``{prefix}.mixed``, ``{prefix}.scratch``.
    """
    return _node(ATTENTION, spec, [queries, *pools, *step, scratch], [f"{prefix}.mixed", f"{prefix}.scratch"])


def with_local_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose plugin nodes are model-local functions of standard operators.

    NOTE: not for TensorRT, whose parser would take the function in the plugin's place. A function for each spec: the
    nodes are renamed, because not every runtime knows overloads.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    functions: dict[tuple[str, str], onnx.FunctionProto] = {}
    for node in copy.graph.node:
        if node.domain != PEREGRINE or node.op_type not in (KV_WRITE, KV_WRITE_NORM, ATTENTION):
            continue
        text = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "spec")
        key = node.op_type, text
        if key not in functions:
            build = attention_function if node.op_type == ATTENTION else kv_write_function
            functions[key] = build(f"{node.op_type}{len(functions)}", AttentionSpec.from_json(text))
        node.op_type = functions[key].name
    copy.functions.extend(functions.values())
    return copy


def _node(operator: str, spec: AttentionSpec, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.NodeProto:
    return helper.make_node(
        operator,
        inputs,
        outputs,
        outputs[0],
        domain=PEREGRINE,
        plugin_namespace=NAMESPACE,
        plugin_version="1",
        aot=1,
        spec=spec.to_json(),
    )
