"""How the plugins' kernels are launched: pure arithmetic, the same for TensorRT's plugins and for tests.

The sizes that change from step to step may be integers or TensorRT's symbolic expressions, which know ``+ - * //``
with the expression on the left; what depends on the spec alone is an integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from build_engine.errors import BuildError
from build_engine.plugins.spec import AttentionSpec

WARPS = 4
SHARED_BYTES = 47 << 10
"""Dynamic shared memory of a block, at most. Past 48 KiB, static memory included, a driver has to be asked for more."""
SPLIT_KEYS = 256
"""Keys below which a part of its own costs more than it saves."""


class Size(Protocol):
    """An integer, or a symbolic expression for one."""

    def __add__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __floordiv__(self, other: Any, /) -> Any: ...


@dataclass(frozen=True)
class Launch:
    """A kernel's grid.

    Attributes:
        kernel: Its name.
        grid: Blocks along x, y, z.
        block: Threads of a block.
        shared_bytes: Dynamic shared memory of a block.
    """

    kernel: str
    grid: tuple[Any, int, int]
    block: int
    shared_bytes: int


@dataclass(frozen=True)
class AttentionTile:
    """What a block of the attention kernel takes at once.

    Attributes:
        rows: Query rows: heads of a group times tokens.
        keys: Positions of the cache.
        shared_bytes: Dynamic shared memory.
    """

    rows: int
    keys: int
    shared_bytes: int


def kv_write_launch(spec: AttentionSpec, tokens: Size) -> Launch:
    """A warp for each head of each token.

    Args:
        spec: What the kernel was compiled for.
        tokens: Rows of ``qkv``.
    """
    heads = spec.num_heads + 2 * spec.num_kv_heads
    return Launch("paged_kv_write", (tokens, _ceil_div(heads, WARPS), 1), 32 * WARPS, 0)


def attention_launch(spec: AttentionSpec, tokens: Size, sequences: Size) -> Launch:
    """Tiles of query rows, KV heads, parts of the keys.

    A sequence's last tile may be broken, so that there are up to ``sequences`` more tiles than rows would fill; those
    without rows, and parts without keys, end at once.

    Args:
        spec: What the kernel was compiled for.
        tokens: Rows of the queries.
        sequences: Rows of the block table.
    """
    tile = attention_tile(spec)
    tiles = tokens * spec.group // tile.rows + sequences
    return Launch("paged_attention", (tiles, spec.num_kv_heads, spec.splits), 32 * WARPS, tile.shared_bytes)


def attention_tile(spec: AttentionSpec) -> AttentionTile:
    """The tile that fits the kernel and the shared memory.

    Raises:
        BuildError: None fits.
    """
    if spec.tensor_cores:
        stride = _ceil_div(spec.head_dim, 64) * 64
        return AttentionTile(rows=64, keys=64, shared_bytes=2 * 64 * stride * 2)
    stride = spec.head_dim + (4 if spec.head_dim // 2 % 2 else 2)
    for rows in (16, 8, 4):
        needed = max(rows * spec.head_dim * 4 + 32 * stride * 2, rows * spec.splits * 4)
        if needed <= SHARED_BYTES:
            return AttentionTile(rows=rows, keys=32, shared_bytes=needed)
    raise BuildError(f"KV-cache plugin: head size {spec.head_dim} needs more shared memory than a block has")


def scratch_width(spec: AttentionSpec) -> int:
    """Floats of scratch for a sequence: arrival counters, and each part's maximum, sum and output for every head.

    The scratch tensor is ``[sequences, scratch_width]`` float32, zeroed once, before the first launch. All layers that
    run one after the other may share it.
    """
    counters = spec.num_kv_heads * _ceil_div(spec.group, attention_tile(spec).rows)
    return counters + spec.num_heads * spec.splits * (spec.head_dim + 2)


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
