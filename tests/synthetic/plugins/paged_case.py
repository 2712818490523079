"""Random ragged batches over a paged cache, run through the kernels on the CPU and through the reference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from cuda_host.host_kernels import HostKernels

from build_engine.plugins.launch import Launch, attention_launch, kv_write_launch, scratch_width
from build_engine.plugins.source import attention_source, kv_write_source
from build_engine.plugins.spec import AttentionSpec
from runtime.reference.attention import paged_attention, rotary_tables

Bits = npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]
Argument = npt.NDArray[np.generic] | np.generic
Runner = Callable[[str, Launch, Sequence[Argument], int], None]
"""Launches the kernel of a source on host arrays, which it updates in place; the last argument orders the threads."""
EPSILON = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Largest relative error of rounding to the type."""


def make_spec(
    head_dim: int, dtype: str = "float16", heads: tuple[int, int] = (4, 2), **changes: object
) -> AttentionSpec:
    spec = AttentionSpec(
        dtype=dtype,  # type: ignore[arg-type]
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=head_dim,
        block_size=16,
        rotary_dim=head_dim,
        scale=head_dim**-0.5,
        splits=1,
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def to_bits(values: npt.ArrayLike, dtype: str) -> Bits:
    wide = np.asarray(values, dtype=np.float32)
    if dtype == "float16":
        return wide.astype(np.float16).view(np.uint16)
    bits = wide.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def to_float(bits: Bits, dtype: str) -> Float32:
    if dtype == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


@functools.cache
def host_kernels(source: str) -> HostKernels:
    return HostKernels(source)


def run_on_host(source: str, launch: Launch, arguments: Sequence[Argument], seed: int) -> None:
    kernels, block = host_kernels(source), (launch.block,)
    kernels.launch(launch.kernel, launch.grid, block, launch.shared_bytes, *arguments, seed=seed)


@dataclass
class PagedCase:
    """A batch of sequences ``(past, new)``; what no sequence has written is NaN."""

    spec: AttentionSpec
    qkv: Bits
    k_cache: Bits
    v_cache: Bits
    cu_seqlens: npt.NDArray[np.int32]
    past_lens: npt.NDArray[np.int32]
    block_table: npt.NDArray[np.int32]
    cos: Float32
    sin: Float32
    norms: tuple[Float32, ...]
    run: Runner = run_on_host

    @classmethod
    def random(cls, spec: AttentionSpec, sequences: Sequence[tuple[int, int]], seed: int = 0) -> PagedCase:
        generator = np.random.default_rng(seed)
        lengths = [past + new for past, new in sequences]
        counts = [-(-length // spec.block_size) for length in lengths]
        blocks = sum(counts) + 3
        shape = (blocks, spec.num_kv_heads, spec.block_size, spec.head_dim)
        k_cache, v_cache = (np.full(shape, np.nan, np.float32) for _ in range(2))
        table = np.full((len(sequences), max(counts) + 1), -1, np.int32)
        free = generator.permutation(blocks).tolist()
        for b, (past, _) in enumerate(sequences):
            table[b, : counts[b]] = [free.pop() for _ in range(counts[b])]
            for position in range(past):
                block, slot = table[b, position // spec.block_size], position % spec.block_size
                k_cache[block, :, slot] = generator.standard_normal(shape[1::2]) * 2
                v_cache[block, :, slot] = generator.standard_normal(shape[1::2])
        tokens = sum(new for _, new in sequences)
        qkv = generator.standard_normal((tokens, (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim)) * 2
        cos, sin = rotary_tables(10000.0, spec.rotary_dim, max(lengths))
        gains = [(1 + generator.random(spec.head_dim)).astype(np.float32) for _ in range(2)]
        return cls(
            spec=spec,
            qkv=to_bits(qkv, spec.dtype),
            k_cache=to_bits(k_cache, spec.dtype),
            v_cache=to_bits(v_cache, spec.dtype),
            cu_seqlens=np.cumsum([0, *(new for _, new in sequences)], dtype=np.int32),
            past_lens=np.array([past for past, _ in sequences], dtype=np.int32),
            block_table=table,
            cos=cos,
            sin=sin,
            norms=tuple(gains) if spec.qk_norm else (),
        )

    def write(self, seed: int = 0) -> Bits:
        """Runs ``paged_kv_write``; returns the rotated queries."""
        spec, tokens = self.spec, len(self.qkv)
        queries = np.full((tokens, spec.num_heads, spec.head_dim), 0x7FFF, np.uint16)
        arguments = (
            *(self.qkv, self.k_cache, self.v_cache, self.cu_seqlens, self.past_lens, self.block_table),
            *(self.cos, self.sin, *self.norms),
            *self._sizes(len(self.cos)),
            *(queries, self.k_cache, self.v_cache),
        )
        self.run(kv_write_source(spec), kv_write_launch(spec, tokens), arguments, seed)
        return queries

    def attend(self, queries: Bits, scratch: Float32 | None = None, seed: int = 0) -> Bits:
        """Runs ``paged_attention``; returns ``[T, num_heads * head_dim]``."""
        spec, tokens, sequences = self.spec, len(self.qkv), len(self.past_lens)
        scratch = self.scratch() if scratch is None else scratch
        out = np.full((tokens, spec.num_heads * spec.head_dim), 0x7FFF, np.uint16)
        arguments = (
            *(queries, self.k_cache, self.v_cache, self.cu_seqlens, self.past_lens, self.block_table, scratch),
            *self._sizes(tokens),
            *(out, scratch),
        )
        self.run(attention_source(spec), attention_launch(spec, tokens, sequences), arguments, seed)
        return out

    def _sizes(self, last: int) -> tuple[np.int32, ...]:
        rows, columns = self.block_table.shape
        return np.int32(rows), np.int32(columns), np.int32(len(self.k_cache)), np.int32(last)

    def scratch(self) -> Float32:
        return np.zeros((len(self.past_lens), scratch_width(self.spec)), np.float32)

    def reference(self) -> tuple[Float32, Float32, Float32]:
        """Attention's output and the pools after it, by the reference in float32."""
        spec = self.spec
        k_cache, v_cache = (to_float(pool, spec.dtype) for pool in (self.k_cache, self.v_cache))
        out = paged_attention(
            to_float(self.qkv, spec.dtype),
            k_cache,
            v_cache,
            self.cu_seqlens,
            self.past_lens,
            self.block_table,
            self.cos,
            self.sin,
            num_heads=spec.num_heads,
            kv_num_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            scale=spec.scale,
            sliding_window=spec.sliding_window,
            rotary_dim=spec.rotary_dim,
            norm_eps=spec.norm_eps,
            q_norm=self.norms[0] if self.norms else None,
            k_norm=self.norms[1] if self.norms else None,
            softcap=spec.softcap,
        )
        return out, k_cache, v_cache

    def attention_reference(self, queries: Bits) -> Float32:
        """The reference on what ``write`` left: rounded queries, keys and values, nothing more to norm or rotate."""
        spec = self.spec
        k_cache, v_cache = (to_float(pool, spec.dtype) for pool in (self.k_cache, self.v_cache))
        rows = np.zeros((len(queries), spec.num_heads + 2 * spec.num_kv_heads, spec.head_dim), np.float32)
        rows[:, : spec.num_heads] = to_float(queries, spec.dtype)
        for b, past in enumerate(self.past_lens.tolist()):
            first, end = self.cu_seqlens[b : b + 2].tolist()
            for token in range(first, end):
                position = past + token - first
                block, slot = self.block_table[b, position // spec.block_size], position % spec.block_size
                cached = [k_cache[block, :, slot], v_cache[block, :, slot]]
                rows[token, spec.num_heads :] = np.concatenate(cached)
        return paged_attention(
            rows.reshape(len(rows), -1),
            k_cache,
            v_cache,
            self.cu_seqlens,
            self.past_lens,
            self.block_table,
            np.ones_like(self.cos),
            np.zeros_like(self.sin),
            num_heads=spec.num_heads,
            kv_num_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            scale=1.0,
            sliding_window=spec.sliding_window,
            rotary_dim=spec.rotary_dim,
            softcap=spec.softcap,
        )
