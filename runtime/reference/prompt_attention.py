"""Paged attention with the sums of a whole prompt in matrix products: the fast twin of ``paged_attention``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Pool = npt.NDArray[np.float32] | npt.NDArray[np.float16]


def prompt_attention(
    qkv: Floats,
    k_cache: Pool,
    v_cache: Pool,
    cu_seqlens: npt.NDArray[np.int32],
    past_lens: npt.NDArray[np.int32],
    block_table: npt.NDArray[np.int32],
    cos: Floats,
    sin: Floats,
    *,
    num_heads: int,
    kv_num_heads: int,
    head_dim: int,
    scale: float,
    sliding_window: int = 0,
    rotary_dim: int = 0,
    norm_eps: float = 1e-5,
    q_norm: Floats | None = None,
    k_norm: Floats | None = None,
    softcap: float = 0.0,
) -> Floats:
    """The same function as `runtime.reference.attention.paged_attention`, to rounding.

    Writes the new keys and values into the pools, then attends over all of them.

    Returns:
        float32 ``[T, num_heads * head_dim]``.
    """
    heads = qkv.reshape(len(qkv), num_heads + 2 * kv_num_heads, head_dim)
    queries, keys, values = np.split(heads, [num_heads, num_heads + kv_num_heads], axis=1)
    group = num_heads // kv_num_heads
    out = np.empty((len(qkv), num_heads, head_dim), dtype=np.float32)
    for row, past in enumerate(past_lens.tolist()):
        new = slice(int(cu_seqlens[row]), int(cu_seqlens[row + 1]))
        if new.start == new.stop:
            continue
        positions = np.arange(past, past + new.stop - new.start)
        turn = (cos[positions], sin[positions], rotary_dim or head_dim)
        rotated_keys = _rotate(_normed(keys[new], k_norm, norm_eps), *turn)
        blocks = _Blocks(block_table[row], k_cache.shape[2])
        blocks.store(k_cache, positions, rotated_keys)
        blocks.store(v_cache, positions, values[new])
        length = past + len(positions)
        grouped = _rotate(_normed(queries[new], q_norm, norm_eps), *turn)
        grouped = grouped.reshape(len(positions), kv_num_heads, group, head_dim).transpose(1, 2, 0, 3)
        scores = grouped @ blocks.load(k_cache, length)[:, None].swapaxes(2, 3) * np.float32(scale)
        if softcap:
            scores = np.tanh(scores / np.float32(softcap)) * np.float32(softcap)
        scores = np.where(_visible(positions, length, sliding_window), scores, np.float32(-np.inf))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = weights @ blocks.load(v_cache, length)[:, None]
        out[new] = mixed.transpose(2, 0, 1, 3).reshape(len(positions), num_heads, head_dim)
    return out.reshape(len(qkv), num_heads * head_dim)


class _Blocks:
    """One sequence's blocks of a pool ``[num_blocks, kv_heads, block_size, head_dim]``."""

    def __init__(self, table: npt.NDArray[np.int32], block_size: int) -> None:
        self._table = table
        self._size = block_size

    def store(self, pool: Pool, positions: npt.NDArray[np.int64], rows: Floats) -> None:
        """Writes ``rows`` ``[n, kv_heads, head_dim]`` at ``positions``."""
        pool[self._table[positions // self._size], :, positions % self._size] = rows

    def load(self, pool: Pool, length: int) -> Floats:
        """The first ``length`` tokens, float32 ``[kv_heads, length, head_dim]``."""
        used = pool[self._table[: -(-length // self._size)]].astype(np.float32)
        blocks, heads, size, dim = used.shape
        return used.transpose(1, 0, 2, 3).reshape(heads, blocks * size, dim)[:, :length]


def _visible(positions: npt.NDArray[np.int64], length: int, window: int) -> npt.NDArray[np.bool_]:
    """Which of ``length`` keys each query sees: ``[n, length]``."""
    distance = positions[:, None] - np.arange(length)[None, :]
    visible = distance >= 0
    return visible & (distance < window) if window else visible


def _normed(x: Floats, gain: Floats | None, epsilon: float) -> Floats:
    if gain is None:
        return x
    normed: Floats = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(epsilon)) * gain
    return normed


def _rotate(x: Floats, cos: Floats, sin: Floats, rotary_dim: int) -> Floats:
    """Rotates the halves of the leading ``rotary_dim`` dimensions of ``x`` ``[n, heads, head_dim]``."""
    half = rotary_dim // 2
    first, second, rest = np.split(x, [half, rotary_dim], axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)
