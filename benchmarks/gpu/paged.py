"""Batches for the paged KV-cache kernels, and those kernels launched as TensorRT's plugins launch them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from build_engine.plugins.launch import Launch, attention_launch, kv_write_launch, scratch_width
from build_engine.plugins.source import attention_source, kv_write_source
from build_engine.plugins.spec import AttentionSpec
from runtime.cuda.device import Device, DeviceBuffer, Kernel, Module, Stream, pointer
from runtime.reference.attention import paged_attention, rotary_tables

Array = npt.NDArray[Any]
Load = Callable[[str, str], Module]
"""``(source, kernel name)`` -> the compiled module on the device."""


def element(spec: AttentionSpec) -> np.dtype[Any]:
    """NumPy's type of activations and cache."""
    return np.dtype(np.float16 if spec.dtype == "float16" else ml_dtypes.bfloat16)


@dataclass
class Batch:
    """A step: its sequences' new tokens, and a cache in which their blocks lie in no order."""

    spec: AttentionSpec
    cu_seqlens: npt.NDArray[np.int32]
    past_lens: npt.NDArray[np.int32]
    block_table: npt.NDArray[np.int32]
    blocks: int

    @classmethod
    def of(cls, spec: AttentionSpec, sequences: Sequence[tuple[int, int]]) -> Batch:
        """Sequences of ``(past, new)`` tokens."""
        counts = [-(-(past + new) // spec.block_size) for past, new in sequences]
        free = np.random.default_rng(3).permutation(sum(counts)).astype(np.int32)
        table = np.full((len(sequences), max(counts)), -1, dtype=np.int32)
        for row, (count, end) in enumerate(zip(counts, np.cumsum(counts), strict=True)):
            table[row, :count] = free[end - count : end]
        new = [0, *(new for _, new in sequences)]
        pasts = np.array([past for past, _ in sequences], dtype=np.int32)
        return cls(spec, np.cumsum(new, dtype=np.int32), pasts, table, sum(counts))

    @property
    def tokens(self) -> int:
        """New tokens."""
        return int(self.cu_seqlens[-1])

    @property
    def pool_shape(self) -> tuple[int, int, int, int]:
        """Of keys and of values."""
        return self.blocks, self.spec.num_kv_heads, self.spec.block_size, self.spec.head_dim

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int((self.past_lens + np.diff(self.cu_seqlens)).max())

    def reference(self, qkv: Array, keys: Array, values: Array, *, rotate: bool = True) -> npt.NDArray[np.float32]:
        """Attention in float32; the pools are updated. Without ``rotate`` the queries have been through the write."""
        spec = self.spec
        cos, sin = rotary_tables(10000.0, spec.rotary_dim, self.longest)
        if not rotate:
            cos, sin = np.ones_like(cos), np.zeros_like(sin)
        return paged_attention(
            qkv,
            keys,
            values,
            self.cu_seqlens,
            self.past_lens,
            self.block_table,
            cos,
            sin,
            num_heads=spec.num_heads,
            kv_num_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            scale=spec.scale if rotate else 1.0,
            sliding_window=spec.sliding_window,
            rotary_dim=spec.rotary_dim,
            softcap=spec.softcap,
        )


class Kernels:
    """The two kernels of a spec, and a batch's memory.

    Args:
        device: Where they run.
        batch: The batch.
        load: Compiles and loads.
    """

    def __init__(self, device: Device, batch: Batch, load: Load) -> None:
        spec = batch.spec
        self.stream: Stream = device.stream()
        self._device, self._batch = device, batch
        self._buffers: list[DeviceBuffer] = []
        self._modules = [load(kv_write_source(spec), "paged_kv_write"), load(attention_source(spec), "paged_attention")]
        self._write, self._attend = (
            module.kernel(name)
            for module, name in zip(self._modules, ("paged_kv_write", "paged_attention"), strict=True)
        )
        itemsize, heads = element(spec).itemsize, spec.num_heads + 2 * spec.num_kv_heads
        pool = int(np.prod(batch.pool_shape)) * itemsize
        self.qkv = self._allocate(batch.tokens * heads * spec.head_dim * itemsize)
        self.keys, self.values = self._allocate(pool), self._allocate(pool)
        self.queries, self.out = (
            self._allocate(batch.tokens * spec.num_heads * spec.head_dim * itemsize) for _ in range(2)
        )
        scratch = len(batch.past_lens) * scratch_width(spec) * 4
        self._scratch = self._allocate(scratch)
        self.stream.fill(self._scratch, 0, scratch)
        steps = (batch.cu_seqlens, batch.past_lens, batch.block_table)
        self._step = [pointer(self.put(array)) for array in steps]
        self._tables = [pointer(self.put(table)) for table in rotary_tables(10000.0, spec.rotary_dim, batch.longest)]

    def put(self, array: Array) -> int:
        """Copy an array to memory of its own; returns its address."""
        address = self._allocate(array.nbytes)
        self.stream.upload(address, np.ascontiguousarray(array))
        return address

    def write(self) -> None:
        """Enqueue ``paged_kv_write``."""
        batch = self._batch
        inputs = [pointer(self.qkv), pointer(self.keys), pointer(self.values), *self._step, *self._tables]
        outputs = [pointer(self.queries), pointer(self.keys), pointer(self.values)]
        arguments = [*inputs, *self._sizes(batch.longest), *outputs]
        self._launch(self._write, kv_write_launch(batch.spec, batch.tokens), arguments)

    def attend(self) -> None:
        """Enqueue ``paged_attention``."""
        batch = self._batch
        pools = [pointer(self.keys), pointer(self.values)]
        inputs = [pointer(self.queries), *pools, *self._step, pointer(self._scratch)]
        arguments = [*inputs, *self._sizes(batch.tokens), pointer(self.out), pointer(self._scratch)]
        self._launch(self._attend, attention_launch(batch.spec, batch.tokens, len(batch.past_lens)), arguments)

    def close(self) -> None:
        """Give everything back."""
        self.stream.synchronize()
        for module in self._modules:
            module.close()
        self.stream.close()
        for buffer in self._buffers:
            buffer.close()

    def _sizes(self, last: int) -> list[np.int32]:
        return [np.int32(size) for size in (*self._batch.block_table.shape, self._batch.blocks, last)]

    def _launch(self, kernel: Kernel, launch: Launch, arguments: list[Any]) -> None:
        self.stream.launch(kernel, launch.grid, (launch.block, 1, 1), launch.shared_bytes, arguments)

    def _allocate(self, nbytes: int) -> int:
        buffer = self._device.allocate(nbytes)
        self._buffers.append(buffer)
        return buffer.address
