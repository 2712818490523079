"""Random calls of each op and exported function, for the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attention_cases import Layout, random_call
from linear_cases import activations, attributes, random_matrix
from native_driver.calls import Array, Call

from build_engine.quantize import pack_tiles
from runtime.native.sampling import SAMPLING_ROW

NORM_EPS = 1e-5

_ATTENTION_KERNELS = {"float32": 0, "float16": 1, "bfloat16": 2}
_ATTENTION_INPUTS = ("qkv", "k_cache", "v_cache", "cu_seqlens", "past_lens", "block_table", "cos", "sin")
_BATCH_FIELDS = ("logits", "vocab", "table", "rows", "places", "count", "eos", "eos_count")


def attention(layout: Layout, lengths: Sequence[tuple[int, int]], seed: int = 0) -> Call:
    """(New, past) tokens of each sequence over a cache of scattered blocks without one to spare."""
    feeds = random_call(layout, lengths, seed, spare_blocks=0).in_memory()
    names = (*_ATTENTION_INPUTS, "q_norm", "k_norm") if layout.norms else _ATTENTION_INPUTS
    out = (len(feeds["qkv"]), layout.num_heads * layout.head_dim)
    kernel = _ATTENTION_KERNELS[layout.cache]
    return Call("PagedAttention", [feeds[name] for name in names], [out, 1, 2], layout.attributes, kernel)


def linear(
    rows: int,
    columns: int,
    count: int,
    form: dict[str, Any],
    *,
    bias: bool = False,
    gain: bool = False,
    residual: bool = False,
    swiglu: bool = False,
) -> Call:
    """``count`` rows of activations through a matrix ``[rows, columns]``."""
    matrix = random_matrix(rows, columns, **form)
    rng, shapes = np.random.default_rng(rows), {"bias": rows, "gain": columns, "residual": (count, rows)}
    wanted = {"bias": bias, "gain": gain, "residual": residual}
    given = [rng.standard_normal(shapes[name]).astype(np.float32) if wanted[name] else None for name in shapes]
    inputs = [activations(count, columns), pack_tiles(matrix), *given]
    width = rows // 2 if swiglu else rows
    options = {"swiglu": int(swiglu), "norm_eps": NORM_EPS}
    return Call("Linear", inputs, [(count, width)], attributes(matrix) | options)


def embedding(rows: int, columns: int, count: int, form: dict[str, Any]) -> Call:
    """Rows of a quantised matrix."""
    matrix = random_matrix(rows, columns, **form)
    ids = np.random.default_rng(count).integers(0, rows, count)
    return Call("QuantEmbedding", [ids, pack_tiles(matrix)], [(count, columns)], attributes(matrix))


def silu_mul(rows: int, width: int) -> Call:
    """Rows of gates and ups."""
    x = np.random.default_rng(width).standard_normal((rows, 2 * width)).astype(np.float32)
    return Call("SiluMul", [x], [(rows, width)])


def conversion(count: int, *, to_half: bool) -> Call:
    """The cache's binary16."""
    values = np.linspace(-4, 4, count, dtype=np.float32)
    arrays: list[Array] = [values, np.zeros(count, np.float16)] if to_half else [values.astype(np.float16), values]
    return Call(
        "peregrine_to_half" if to_half else "peregrine_to_float", arrays, kernel=None, arguments=["0", "1", count]
    )


def sampling(vocabulary: int, params: Sequence[dict[str, Any]], seed: int = 0, threads: int = 1) -> Call:
    """A token for each row of logits.

    Args:
        vocabulary: Logits in a row.
        params: Of each row: fields of ``SAMPLING_ROW`` other than the defaults; ``counted`` and ``allowed`` say
            how many tokens there are of these.
        seed: Of the logits.
        threads: Of the library's own pool.
    """
    rng, count = np.random.default_rng(seed), len(params)
    table = np.zeros(count, SAMPLING_ROW)
    table["temperature"] = table["repetition_penalty"] = table["top_p"] = 1
    table["top_k"] = -1
    eos = np.array([0, vocabulary - 1, vocabulary], np.int64)
    batch = np.zeros(len(_BATCH_FIELDS), np.int64)
    arrays: list[Array] = [
        batch,
        (4 * rng.standard_normal((count, vocabulary))).astype(np.float32),
        table,
        rng.permutation(count),
        rng.permutation(count),
        eos,
        np.zeros(count, np.int64),
        np.zeros(count, np.float64),
    ]
    sizes = {"vocab": vocabulary, "count": count, "eos_count": len(eos)}
    batch[:] = [sizes.get(name, 0) for name in _BATCH_FIELDS]
    patches = [
        (0, 8 * _BATCH_FIELDS.index(name), place)
        for name, place in [("logits", 1), ("table", 2), ("rows", 3), ("places", 4), ("eos", 5)]
    ]
    for row, given in enumerate(params):
        for name, value in given.items():
            if name not in ("counted", "allowed"):
                table[row][name] = value
                continue
            table[row][f"{name}_length"] = value
            ids = rng.integers(-1, vocabulary + 1, value)
            for field, array in [(name, ids)] + [("counts", rng.integers(1, 5, value))] * (name == "counted"):
                patches.append((2, row * SAMPLING_ROW.itemsize + SAMPLING_ROW.fields[field][1], len(arrays)))
                arrays.append(array)
    return Call("peregrine_sample", arrays, kernel=None, patches=patches, arguments=["0", threads, "6", "7"])
