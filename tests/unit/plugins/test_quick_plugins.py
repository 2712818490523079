"""The plugins as TensorRT sees them: shapes, types, aliases, launch parameters, arguments in the kernels' order."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from quick_plugin import QuickPlugin, TensorDesc

from build_engine.plugins import quick
from build_engine.plugins.launch import attention_launch, kv_write_launch, scratch_width
from build_engine.plugins.source import attention_source, kv_write_source
from build_engine.plugins.spec import AttentionSpec

SPEC = AttentionSpec(
    dtype="float16", num_heads=8, num_kv_heads=2, head_dim=64, block_size=16, rotary_dim=32, scale=0.125, splits=4
)
SIZES = {"T": 300, "B": 9, "M": 40, "N": 500, "P": 4096}


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> dict[str, SimpleNamespace]:
    monkeypatch.setattr(quick, "plugin_ptx", lambda spec, kernel, arch: f"{kernel} {arch}")
    module = QuickPlugin()
    quick.register_plugins(module, "sm_90")
    return module.defined


def kv_write_inputs(spec: AttentionSpec) -> list[TensorDesc]:
    element = spec.dtype
    pools = [TensorDesc(element, "N", spec.num_kv_heads, spec.block_size, spec.head_dim) for _ in range(2)]
    qkv = TensorDesc(element, "T", (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim)
    tables = [TensorDesc("float32", "P", spec.rotary_dim // 2) for _ in range(2)]
    norms = [TensorDesc("float32", spec.head_dim) for _ in range(2)] if spec.qk_norm else []
    return [qkv, *pools, *step_inputs(), *tables, *norms]


def attention_inputs(spec: AttentionSpec) -> list[TensorDesc]:
    queries = TensorDesc(spec.dtype, "T", spec.num_heads, spec.head_dim)
    return [queries, *kv_write_inputs(spec)[1:6], TensorDesc("float32", "B", scratch_width(spec))]


def step_inputs() -> list[TensorDesc]:
    return [TensorDesc("int32", *shape) for shape in (("B1",), ("B",), ("B", "M"))]


def shape(tensor: TensorDesc) -> list[int]:
    return [size.value(**SIZES) for size in tensor.shape_expr]


def parameters(source: str) -> list[str]:
    """Types of a kernel's parameters, norms included where they are compiled in."""
    text = re.search(r"__global__[^(]*\([^)]*\)\s*\w+\((.*?)\)\s*\{", source, re.DOTALL)
    assert text
    listed = text[1]
    if "#define QK_NORM 0" in source:
        listed = re.sub(r"#if QK_NORM.*?#endif", "", listed, flags=re.DOTALL)
    listed = re.sub(r"#.*", "", listed)
    return ["pointer" if "*" in parameter else parameter.split()[0] for parameter in listed.split(",")]


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, qk_norm=True)], ids=["plain", "norm"])
def test_kv_write_gives_queries_and_the_pools_themselves(
    plugins: dict[str, SimpleNamespace], spec: AttentionSpec
) -> None:
    plugin = plugins["peregrine::PagedKvWriteNorm" if spec.qk_norm else "peregrine::PagedKvWrite"]
    inputs = kv_write_inputs(spec)
    assert len(plugin.names) == len(inputs) + 1
    queries, keys, values = plugin.register(*inputs, spec.to_json())
    assert (queries.dtype, shape(queries), queries.alias) == ("float16", [300, 8, 64], None)
    assert (keys.alias, values.alias) == (inputs[1], inputs[2])


def test_attention_gives_mixed_values_and_the_scratch_itself(plugins: dict[str, SimpleNamespace]) -> None:
    inputs = attention_inputs(SPEC)
    mixed, scratch = plugins["peregrine::PagedAttentionRows"].register(*inputs, SPEC.to_json())
    assert (mixed.dtype, shape(mixed)) == ("float16", [300, 512])
    assert scratch.alias is inputs[6]


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, qk_norm=True)], ids=["plain", "norm"])
def test_kv_write_is_launched_as_its_kernel_expects(plugins: dict[str, SimpleNamespace], spec: AttentionSpec) -> None:
    plugin = plugins["peregrine::PagedKvWriteNorm" if spec.qk_norm else "peregrine::PagedKvWrite"]
    inputs = kv_write_inputs(spec)
    kernel, ptx, launch, extra = plugin.aot_impl(*inputs, spec.to_json(), (), 0)
    expected = kv_write_launch(spec, SIZES["T"])
    assert (kernel, ptx) == ("paged_kv_write", "paged_kv_write sm_90")
    assert [launch.grid_x.value(**SIZES), launch.grid_y.value(), launch.grid_z.value()] == list(expected.grid)
    assert [launch.block_x.value(), launch.shared_mem.value()] == [expected.block, expected.shared_bytes]
    assert [size.value(**SIZES) for size in extra] == [9, 40, 500, 4096]
    arguments = ["pointer"] * len(inputs) + ["int"] * len(extra) + ["pointer"] * plugin.outputs
    assert parameters(kv_write_source(spec)) == arguments


@pytest.mark.parametrize("head_dim", [64, 72])
def test_attention_is_launched_as_its_kernel_expects(plugins: dict[str, SimpleNamespace], head_dim: int) -> None:
    spec = replace(SPEC, head_dim=head_dim)
    plugin, inputs = plugins["peregrine::PagedAttentionRows"], attention_inputs(spec)
    kernel, _, launch, extra = plugin.aot_impl(*inputs, spec.to_json(), (), 0)
    expected = attention_launch(spec, SIZES["T"], SIZES["B"])
    assert kernel == "paged_attention"
    grid = [size.value(**SIZES) for size in (launch.grid_x, launch.grid_y, launch.grid_z)]
    assert grid == list(expected.grid)
    assert [launch.block_x.value(), launch.shared_mem.value()] == [expected.block, expected.shared_bytes]
    assert [size.value(**SIZES) for size in extra] == [9, 40, 500, 300]
    arguments = ["pointer"] * len(inputs) + ["int"] * len(extra) + ["pointer"] * plugin.outputs
    assert parameters(attention_source(spec)) == arguments


@pytest.mark.parametrize(("dtype", "element"), [("float16", "FP16"), ("bfloat16", "BF16")])
def test_types_are_named_for_every_input_and_output(
    plugins: dict[str, SimpleNamespace], dtype: str, element: str
) -> None:
    spec = replace(SPEC, dtype=dtype)  # type: ignore[arg-type]
    for name, inputs in (
        ("PagedKvWrite", kv_write_inputs(spec)),
        ("PagedKvWriteNorm", kv_write_inputs(replace(spec, qk_norm=True))),
        ("PagedAttentionRows", attention_inputs(spec)),
    ):
        plugin = plugins[f"peregrine::{name}"]
        types = plugin.autotune(*inputs, spec.to_json(), ()).io_types
        outputs = plugin.register(*inputs, spec.to_json())
        names = {dtype: element, "float32": "FP32", "int32": "INT32"}
        assert types == [names[tensor.dtype] for tensor in (*inputs, *outputs)]
