"""Paged attention and rotary tables in NumPy: what the native and GPU kernels are measured against.

Every query row is computed alone, by reductions whose order depends on shapes only. A row's bits therefore depend
on nothing but its own query and the keys and values it sees: not on the batch, nor on how a prompt was cut.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.bundle.architecture import RopeScaling

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Cache = npt.NDArray[Any]


def paged_attention(
    qkv: Float32,
    k_cache: Cache,
    v_cache: Cache,
    cu_seqlens: Int32,
    past_lens: Int32,
    block_table: Int32,
    cos: Float32,
    sin: Float32,
    *,
    num_heads: int,
    kv_num_heads: int,
    head_dim: int,
    scale: float,
    sliding_window: int = 0,
    rotary_dim: int = 0,
    norm_eps: float = 1e-5,
    q_norm: Float32 | None = None,
    k_norm: Float32 | None = None,
    softcap: float = 0.0,
) -> Float32:
    """Writes the new tokens' keys and values into the caches, then attends causally over them.

    Sequence ``b`` has the new tokens ``cu_seqlens[b] .. cu_seqlens[b + 1]`` at the positions ``past_lens[b] + i``;
    position ``p`` lies in the cache block ``block_table[b, p // block_size]``.

    Args:
        qkv: ``[T, (num_heads + 2 * kv_num_heads) * head_dim]``: heads of Q, then of K, then of V.
        k_cache: ``[num_blocks, kv_num_heads, block_size, head_dim]``, float32, float16 or
            ``ml_dtypes.bfloat16``, written in place.
        v_cache: Like ``k_cache``.
        cu_seqlens: ``[B + 1]`` prefix sums of new-token counts.
        past_lens: ``[B]`` tokens of each sequence that the cache holds already.
        block_table: ``[B, M]`` block ids, -1 padded.
        cos: ``[positions, rotary_dim / 2]``.
        sin: Like ``cos``.
        num_heads: Query heads; a multiple of ``kv_num_heads``.
        kv_num_heads: Key and value heads.
        head_dim: Elements of a head.
        scale: Factor on the products of queries and keys; 0 is ``head_dim ** -0.5``.
        sliding_window: A query at ``p`` sees the keys ``p - sliding_window + 1 .. p``; 0 is all of them.
        rotary_dim: Leading elements of a head that rotate, in pairs ``(i, i + rotary_dim / 2)``; 0 is ``head_dim``.
        norm_eps: Epsilon of the per-head RMSNorm.
        q_norm: ``[head_dim]`` gain of the RMSNorm over each head of Q, before rotation.
        k_norm: The same for K.
        softcap: ``s = softcap * tanh(s / softcap)`` on scores; 0 is off.

    Returns:
        ``[T, num_heads * head_dim]`` float32.
    """
    group = num_heads // kv_num_heads
    rotary_dim = rotary_dim or head_dim
    heads = qkv.reshape(len(qkv), num_heads + 2 * kv_num_heads, head_dim)
    queries, keys, values = np.split(heads, [num_heads, num_heads + kv_num_heads], axis=1)
    out = np.empty((len(qkv), kv_num_heads, group, head_dim), dtype=np.float32)
    for b, past in enumerate(past_lens.tolist()):
        first = int(cu_seqlens[b])
        for token in range(first, int(cu_seqlens[b + 1])):
            position = past + token - first
            rotation = cos[position], sin[position], rotary_dim
            block, slot = _locate(block_table[b], position, k_cache.shape[2])
            k_cache[block, :, slot] = _rotate(_rms_norm(keys[token], k_norm, norm_eps), *rotation)
            v_cache[block, :, slot] = values[token]
            query = _rotate(_rms_norm(queries[token], q_norm, norm_eps), *rotation)
            start = max(0, position - sliding_window + 1) if sliding_window else 0
            out[token] = _attend(
                query.reshape(kv_num_heads, group, head_dim),
                _gather(k_cache, block_table[b], start, position + 1),
                _gather(v_cache, block_table[b], start, position + 1),
                scale or head_dim**-0.5,
                softcap,
            )
    return out.reshape(len(qkv), num_heads * head_dim)


def rotary_tables(
    rope_theta: float, rotary_dim: int, length: int, scaling: RopeScaling | None = None
) -> tuple[Float32, Float32]:
    """Cosines and sines of rotary embedding, computed in float64.

    Args:
        rope_theta: Base of the wavelengths.
        rotary_dim: Elements of a head that rotate; even.
        length: Positions.
        scaling: Long-context scaling, if any.

    Returns:
        ``cos, sin``, each ``[length, rotary_dim / 2]`` float32; LongRoPE's carry its attention factor.
    """
    frequencies = rope_theta ** -(np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)
    magnitude = 1.0
    if scaling is not None:
        frequencies = _scale_frequencies(frequencies, scaling)
        magnitude = scaling.attention_factor
    angles = np.arange(length, dtype=np.float64)[:, None] * frequencies
    return _times(np.cos(angles), magnitude), _times(np.sin(angles), magnitude)


def _times(values: Float64, factor: float) -> Float32:
    values *= factor  # in place: the tables of a long context are large
    return values.astype(np.float32)


def _scale_frequencies(frequencies: Float64, scaling: RopeScaling) -> Float64:
    """Linear scaling; LongRoPE's divisors; or Llama 3.1's rule, which keeps short wavelengths and blends in between."""
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "longrope":
        return frequencies / np.array(scaling.factors, dtype=np.float64)
    turns = scaling.original_context_length * frequencies / (2 * math.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return keep * frequencies + (1.0 - keep) * frequencies / scaling.factor


def _locate(table: Int32, position: int, block_size: int) -> tuple[int, int]:
    return int(table[position // block_size]), position % block_size


def _gather(cache: Cache, table: Int32, start: int, stop: int) -> Float64:
    """The rows of positions ``start .. stop`` as ``[kv_num_heads, stop - start, head_dim]``."""
    block_size = cache.shape[2]
    positions = np.arange(start, stop)
    rows = cache[table[positions // block_size], :, positions % block_size]
    return np.ascontiguousarray(rows.transpose(1, 0, 2), dtype=np.float64)


def _rms_norm(heads: Float32, gain: Float32 | None, eps: float) -> Float32:
    if gain is None:
        return heads
    wide = heads.astype(np.float64)
    mean = np.mean(wide * wide, axis=-1, keepdims=True)
    normalised: Float32 = (wide / np.sqrt(mean + eps) * gain).astype(np.float32)
    return normalised


def _rotate(heads: Float32, cos: Float32, sin: Float32, rotary_dim: int) -> Float32:
    half = rotary_dim // 2
    low, high, rest = heads[:, :half], heads[:, half:rotary_dim], heads[:, rotary_dim:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin, rest], axis=1)


def _attend(query: Float32, keys: Float64, values: Float64, scale: float, softcap: float) -> Float64:
    """One token: query ``[kv, group, d]`` against keys and values ``[kv, n, d]``.

    NOTE: sums, not matrix products: BLAS picks its order by shape, alignment and thread count.
    """
    scores = (query[:, :, None].astype(np.float64) * keys[:, None]).sum(axis=-1) * scale
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed: Float64 = (weights[..., None] * values[:, None]).sum(axis=2)
    return mixed
