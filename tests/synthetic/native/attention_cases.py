"""Random PagedAttention calls, run by the native op and by the NumPy reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto, helper

from runtime.native import active_isa, library_path
from runtime.native.library import load_library
from runtime.reference import paged_attention, rotary_tables

Array = npt.NDArray[Any]

_ELEMENTS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
_DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
_TYPES = {
    "qkv": TensorProto.FLOAT,
    "cu_seqlens": TensorProto.INT32,
    "past_lens": TensorProto.INT32,
    "block_table": TensorProto.INT32,
    "cos": TensorProto.FLOAT,
    "sin": TensorProto.FLOAT,
    "q_norm": TensorProto.FLOAT,
    "k_norm": TensorProto.FLOAT,
}
_CACHES = ("k_cache", "v_cache")
_GROUP = 16
_INPUTS = ("qkv", "k_cache", "v_cache", *list(_TYPES)[1:])


@dataclass(frozen=True)
class Layout:
    """Heads and options of the op."""

    num_heads: int = 4
    kv_num_heads: int = 2
    head_dim: int = 16
    block_size: int = 16
    sliding_window: int = 0
    rotary_dim: int = 0
    softcap: float = 0.0
    norms: bool = False
    cache: str = "float32"

    @property
    def width(self) -> int:
        return (self.num_heads + 2 * self.kv_num_heads) * self.head_dim

    @property
    def packed(self) -> bool:
        """Whether the op packs the cache: see ``KeyRange`` in ``kernels.h``."""
        return self.block_size % _GROUP == 0 and self.head_dim % _GROUP == 0

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            "num_heads": self.num_heads,
            "kv_num_heads": self.kv_num_heads,
            "head_dim": self.head_dim,
            "scale": self.head_dim**-0.5,
            "sliding_window": self.sliding_window,
            "rotary_dim": self.rotary_dim,
            "norm_eps": 1e-6,
            "softcap": self.softcap,
        }


@dataclass
class Call:
    """The inputs of one call; `feeds` has the op's input names."""

    layout: Layout
    feeds: dict[str, Array] = field(default_factory=dict)

    def copy(self, **changes: Array) -> Call:
        return replace(self, feeds={name: array.copy() for name, array in (self.feeds | changes).items()})

    def in_memory(self) -> dict[str, Array]:
        """The feeds, a packed cache as the op has it in memory; only a cache that is not is the call's own."""
        if not self.layout.packed:
            return self.feeds
        caches = {name: self.feeds[name] for name in _CACHES}
        packed = {name: np.ascontiguousarray(packed_view(cache, name)) for name, cache in caches.items()}
        return self.feeds | {name: packed[name].reshape(cache.shape) for name, cache in caches.items()}

    def native(self, threads: int = 2) -> Array:
        """Runs the op; the caches in `feeds` are written in place, as plain rows."""
        feeds = self.in_memory()
        out = run_op(session(self.layout, threads, "q_norm" in feeds), feeds)
        if self.layout.packed:
            for name in _CACHES:
                rows = packed_view(self.feeds[name], name)
                rows[...] = feeds[name].reshape(rows.shape)
        return out

    def reference(self) -> Array:
        return paged_attention(**self.feeds, **self.layout.attributes)


def packed_view(cache: Array, name: str) -> Array:
    """A cache of plain rows, its axes in the order in which a packed one lies in memory."""
    blocks, heads, block_size, dim = cache.shape
    pack = 2 if cache.dtype.name == "bfloat16" else 1
    groups = cache.view().reshape(blocks, heads, block_size // _GROUP, _GROUP, dim)
    if name == "k_cache":
        return groups.reshape(*groups.shape[:-1], dim // pack, pack).swapaxes(3, 4)
    return groups.reshape(*groups.shape[:3], _GROUP // pack, pack, dim).swapaxes(4, 5)


def random_call(
    layout: Layout, lengths: Sequence[tuple[int, int]], seed: int = 0, spare_blocks: int = 2, spread: float = 1.0
) -> Call:
    """A call with (new tokens, past tokens) for each sequence, its blocks scattered over the pool.

    Cache slots that hold no past token are NaN: whoever reads them shows it.
    """
    rng = np.random.default_rng(seed)
    counts = [-(-(new + past) // layout.block_size) for new, past in lengths]
    free = list(rng.permutation(sum(counts) + spare_blocks))
    table = np.full((len(lengths), max(counts, default=0)), -1, np.int32)
    for row, count in enumerate(counts):
        table[row, :count] = [free.pop() for _ in range(count)]
    shape = (sum(counts) + spare_blocks, layout.kv_num_heads, layout.block_size, layout.head_dim)
    k_cache, v_cache = (np.full(shape, np.nan, _DTYPES[layout.cache]) for _ in range(2))
    for row, (_, past) in enumerate(lengths):
        for position in range(past):
            block, slot = table[row, position // layout.block_size], position % layout.block_size
            for pool in (k_cache, v_cache):
                pool[block, :, slot] = rng.standard_normal(shape[1::2])
    tokens = sum(new for new, _ in lengths)
    rotary_dim = layout.rotary_dim or layout.head_dim
    cos, sin = rotary_tables(10000.0, rotary_dim, max((n + p for n, p in lengths), default=0) + 1)
    feeds = {
        "qkv": (spread * rng.standard_normal((tokens, layout.width))).astype(np.float32),
        "k_cache": k_cache,
        "v_cache": v_cache,
        "cu_seqlens": np.cumsum([0, *(new for new, _ in lengths)]).astype(np.int32),
        "past_lens": np.array([past for _, past in lengths], np.int32),
        "block_table": table,
        "cos": cos,
        "sin": sin,
    }
    if layout.norms:
        for name in ("q_norm", "k_norm"):
            feeds[name] = rng.standard_normal(layout.head_dim).astype(np.float32)
    return Call(layout, feeds)


def run_op(op: ort.InferenceSession, feeds: dict[str, Array], **outputs: Array) -> Array:
    """Runs a session with each cache bound as input and output, unless `outputs` has another array for it."""
    binding = op.io_binding()
    values = {name: ort.OrtValue.ortvalue_from_numpy(feeds[name]) for name in feeds if name not in _CACHES}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in _CACHES:
        # NOTE: bound by address, for there is no other way to bind bfloat16 arrays.
        for bind, suffix, array in (
            (binding.bind_input, "", feeds[name]),
            (binding.bind_output, "_out", outputs.get(name, feeds[name])),
        ):
            assert array.flags.c_contiguous
            bind(f"{name}{suffix}", "cpu", 0, _ELEMENTS[array.dtype.name], array.shape, array.ctypes.data)
    binding.bind_output("out")
    op.run_with_iobinding(binding)
    # NOTE: what numpy() returns is a view that does not keep the memory alive.
    return binding.get_outputs()[-1].numpy().copy()


@cache
def session(layout: Layout, threads: int, norms: bool) -> ort.InferenceSession:
    return open_session(attention_model(layout, norms, layout.attributes), threads)


def attention_model(layout: Layout, norms: bool, attributes: dict[str, Any], outputs: int = 3) -> bytes:
    """A model of one node, with the first `outputs` of the op's outputs as its own."""
    cache = _ELEMENTS[layout.cache]
    names = _INPUTS if norms else _INPUTS[:-2]
    inputs = [helper.make_tensor_value_info(name, _TYPES.get(name, cache), None) for name in names]
    results = [("out", TensorProto.FLOAT), ("k_cache_out", cache), ("v_cache_out", cache)]
    node = helper.make_node("PagedAttention", names, [name for name, _ in results], domain="peregrine", **attributes)
    given = [helper.make_tensor_value_info(name, element, None) for name, element in results[:outputs]]
    return one_node_model(node, inputs, given)


def one_node_model(node: Any, inputs: list[Any], outputs: list[Any]) -> bytes:
    graph = helper.make_graph([node], "one_node", inputs, outputs)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("peregrine", 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return model


def open_session(model: bytes, threads: int = 2) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.register_custom_ops_library(str(library_path()))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def forced_isa(isa: str) -> Iterator[None]:
    """Runs the kernels of another instruction set meanwhile."""
    before = active_isa()
    assert load_library().peregrine_force_isa(isa.encode())
    try:
        yield
    finally:
        load_library().peregrine_force_isa(before.encode())
