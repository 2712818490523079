"""A graph with the plugins' nodes runs on ONNX Runtime too, as model-local functions, and agrees with the reference."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from paged_case import PagedCase, make_spec

from build_engine.plugins.launch import scratch_width
from build_engine.plugins.onnx_nodes import attention_node, kv_write_node, with_local_functions
from build_engine.plugins.spec import AttentionSpec

STEP = ("cu_seqlens", "past_lens", "block_table")
POOLS = ("k_cache", "v_cache")
NORMS = ("q_norm", "k_norm")
SEQUENCES = [(37, 1), (0, 5), (20, 9), (0, 0), (15, 1)]


def build_model(spec: AttentionSpec) -> onnx.ModelProto:
    norms = NORMS if spec.qk_norm else ()
    pools = ("k_cache_out", "v_cache_out")
    nodes = [
        kv_write_node(spec, "qkv", POOLS, STEP, ("cos", "sin"), norms, "layer"),
        attention_node(spec, "layer.queries", pools, STEP, "scratch", "layer"),
    ]
    half, packed = TensorProto.FLOAT16, (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    pool = ["blocks", spec.num_kv_heads, spec.block_size, spec.head_dim]
    inputs = [("qkv", half, ["T", packed]), *((name, half, pool) for name in POOLS)]
    inputs += [(name, TensorProto.INT32, shape) for name, shape in zip(STEP, (["B1"], ["B"], ["B", "M"]), strict=True)]
    inputs += [(name, TensorProto.FLOAT, ["P", spec.rotary_dim // 2]) for name in ("cos", "sin")]
    inputs += [(name, TensorProto.FLOAT, [spec.head_dim]) for name in norms]
    inputs += [("scratch", TensorProto.FLOAT, ["B", scratch_width(spec)])]
    outputs = [("layer.mixed", half, ["T", spec.num_heads * spec.head_dim]), *((name, half, pool) for name in pools)]
    graph = helper.make_graph(
        nodes,
        "attention",
        *([helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)),
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("peregrine", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(64),
        make_spec(32, heads=(6, 2), sliding_window=7, softcap=4.0),
        make_spec(48, heads=(4, 1), rotary_dim=24, qk_norm=True, scale=0.2),
    ],
    ids=["plain", "window-softcap", "norm-partial-rotation"],
)
def test_plugin_nodes_as_local_functions_agree_with_the_reference(spec: AttentionSpec) -> None:
    model = with_local_functions(build_model(spec))
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    case = PagedCase.random(spec, SEQUENCES, seed=5)
    feeds = {
        "qkv": case.qkv.view(np.float16),
        "k_cache": case.k_cache.view(np.float16),
        "v_cache": case.v_cache.view(np.float16),
        **{name: getattr(case, name) for name in (*STEP, "cos", "sin")},
        **dict(zip(NORMS, case.norms, strict=False)),
        "scratch": case.scratch(),
    }
    expected = case.reference()
    got = session.run(["layer.mixed", "k_cache_out", "v_cache_out"], feeds)
    for result, wanted, tolerance in zip(got, expected, (1e-2, 4e-3, 4e-3), strict=True):
        np.testing.assert_allclose(result.astype(np.float32), wanted, rtol=4e-3, atol=tolerance)


def test_the_model_for_tensorrt_keeps_its_nodes_and_has_no_functions() -> None:
    model = build_model(make_spec(64))
    with_local_functions(model)
    assert [node.op_type for node in model.graph.node] == ["PagedKvWrite", "PagedAttentionRows"]
    assert not model.functions
    for node in model.graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert attributes["plugin_namespace"] == b"peregrine"
        assert attributes["aot"] == 1
        assert AttentionSpec.from_json(attributes["spec"].decode()) == make_spec(64)


def test_layers_that_agree_share_a_function_and_others_have_their_own() -> None:
    model = build_model(make_spec(64))
    other = build_model(make_spec(64, sliding_window=8))
    for node in [*model.graph.node, *other.graph.node]:
        model.graph.node.append(node)
    assert len(with_local_functions(model).functions) == 4
