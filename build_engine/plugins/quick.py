"""Registration of the plugins with ``tensorrt.plugin`` (quickly deployable plugins with ahead-of-time kernels).

Written from the Python sources of TensorRT 11.4's ``tensorrt.plugin``, whose checks of signatures and annotations these
definitions pass; never run with TensorRT itself.

TensorRT calls a kernel with its inputs, then 32-bit integers, then its outputs. An output that is ``aliased()`` has the
address of its input and needs ``PreviewFeature.ALIASED_PLUGIN_IO_10_03``. All floats are compiled in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import GenericAlias
from typing import Any

from build_engine.plugins.compile import plugin_ptx
from build_engine.plugins.launch import Launch, attention_launch, kv_write_launch
from build_engine.plugins.spec import AttentionSpec

NAMESPACE = "peregrine"
KV_WRITE, KV_WRITE_NORM, ATTENTION = "PagedKvWrite", "PagedKvWriteNorm", "PagedAttentionRows"
KV_WRITE_INPUTS = ("qkv", "k_cache", "v_cache", "cu_seqlens", "past_lens", "block_table", "cos", "sin")
NORM_INPUTS = ("q_norm", "k_norm")
ATTENTION_INPUTS = ("queries", "k_cache", "v_cache", "cu_seqlens", "past_lens", "block_table", "scratch")
OUTPUTS = {KV_WRITE: 3, KV_WRITE_NORM: 3, ATTENTION: 2}
_PARAMETER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def register_plugins(plugin: Any, arch: str) -> None:
    """Registers the plugins; once a process.

    Args:
        plugin: The module ``tensorrt.plugin``.
        arch: The GPU the engine is built for, such as ``sm_90``.
    """
    _register(plugin, KV_WRITE, KV_WRITE_INPUTS, _kv_write_outputs, _kv_write_kernel, arch)
    _register(plugin, KV_WRITE_NORM, (*KV_WRITE_INPUTS, *NORM_INPUTS), _kv_write_outputs, _kv_write_kernel, arch)
    _register(plugin, ATTENTION, ATTENTION_INPUTS, _attention_outputs, _attention_kernel, arch)


def _register(
    plugin: Any,
    name: str,
    inputs: Sequence[str],
    describe: Callable[[Any, AttentionSpec, Sequence[Any]], tuple[Any, ...]],
    kernel: Callable[[AttentionSpec, Sequence[Any]], tuple[Launch, list[Any]]],
    arch: str,
) -> None:
    """Defines one plugin, whose only attribute is the JSON of its spec."""
    tensors = GenericAlias(tuple, (plugin.TensorDesc,) * OUTPUTS[name])

    def register(*arguments: Any) -> tuple[Any, ...]:
        return describe(plugin, AttentionSpec.from_json(arguments[len(inputs)]), arguments[: len(inputs)])

    def autotune(*arguments: Any) -> Any:
        spec = AttentionSpec.from_json(arguments[len(inputs)])
        return plugin.AutoTuneCombination(", ".join(_types(name, spec)), "LINEAR")

    def aot_impl(*arguments: Any) -> tuple[str, str, Any, Any]:
        spec = AttentionSpec.from_json(arguments[len(inputs)])
        launch, sizes = kernel(spec, arguments[: len(inputs)])
        extra = plugin.SymIntExprs(len(sizes))
        for index, size in enumerate(sizes):
            extra[index] = plugin.SymInt32(size)
        ptx = plugin_ptx(spec, launch.kernel, arch)
        return launch.kernel, ptx, _launch_parameters(plugin, launch), extra

    described = [_parameter(name, plugin.TensorDesc) for name in inputs]
    spec, outputs = _parameter("spec", str), _parameter("outputs", tensors)
    code = GenericAlias(tuple, (str, str, plugin.KernelLaunchParams, plugin.SymIntExprs))
    identity = f"{NAMESPACE}::{name}"
    plugin.register(identity)(_with_signature(register, [*described, spec], tensors))
    plugin.autotune(identity)(_with_signature(autotune, [*described, spec, outputs], plugin.AutoTuneCombination))
    tactic = _parameter("tactic", int)
    plugin.aot_impl(identity)(_with_signature(aot_impl, [*described, spec, outputs, tactic], code))


def _kv_write_outputs(plugin: Any, spec: AttentionSpec, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Queries [T, heads, head_dim], and the pools themselves."""
    qkv, k_cache, v_cache = inputs[:3]
    queries = plugin.from_shape_expr((qkv.shape_expr[0], spec.num_heads, spec.head_dim), qkv.dtype)
    return queries, k_cache.aliased(), v_cache.aliased()


def _attention_outputs(plugin: Any, spec: AttentionSpec, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The mixed values [T, heads * head_dim], and the scratch itself."""
    queries, scratch = inputs[0], inputs[6]
    mixed = plugin.from_shape_expr((queries.shape_expr[0], spec.num_heads * spec.head_dim), queries.dtype)
    return mixed, scratch.aliased()


def _kv_write_kernel(spec: AttentionSpec, inputs: Sequence[Any]) -> tuple[Launch, list[Any]]:
    tokens, positions = inputs[0].shape_expr[0], inputs[6].shape_expr[0]
    return kv_write_launch(spec, tokens), [*_sizes(inputs), positions]


def _attention_kernel(spec: AttentionSpec, inputs: Sequence[Any]) -> tuple[Launch, list[Any]]:
    tokens, sizes = inputs[0].shape_expr[0], _sizes(inputs)
    return attention_launch(spec, tokens, sizes[0]), [*sizes, tokens]


def _sizes(inputs: Sequence[Any]) -> list[Any]:
    """Sequences, blocks of a table's row, blocks of the pool."""
    table, pool = inputs[5].shape_expr, inputs[1].shape_expr
    return [table[0], table[1], pool[0]]


def _types(name: str, spec: AttentionSpec) -> list[str]:
    """TensorRT's names of the types of inputs and outputs."""
    element = "FP16" if spec.dtype == "float16" else "BF16"
    common = [element] * 3 + ["INT32"] * 3
    if name == ATTENTION:
        return [*common, "FP32", element, "FP32"]
    return [*common, *["FP32"] * (4 if name == KV_WRITE_NORM else 2), *[element] * 3]


def _launch_parameters(plugin: Any, launch: Launch) -> Any:
    parameters = plugin.KernelLaunchParams()
    parameters.grid_x, parameters.grid_y, parameters.grid_z = launch.grid
    parameters.block_x = launch.block
    parameters.shared_mem = launch.shared_bytes
    return parameters


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, _PARAMETER, annotation=annotation)


def _with_signature(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter], result: Any
) -> Callable[..., Any]:
    # NOTE: TensorRT reads names and types by ``inspect.signature``; strings, as annotations are here, it cannot use.
    function.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
    return function
