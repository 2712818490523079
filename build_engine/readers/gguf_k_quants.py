"""GGUF's K-quants and IQ4_NL as blocks of 32.

A K-quant's super-block holds 256 values of one row and quantises the scales of its parts too. Block layouts:
``ggml-common.h`` of llama.cpp; what the parts mean: its ``dequantize_row_*`` functions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import QuantBlocks

SUPER_BLOCK = 256

Q4_K = np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("qs", "u1", 128)])
Q5_K = np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("qh", "u1", 32), ("qs", "u1", 128)])
Q6_K = np.dtype([("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), ("d", "<f2")])
IQ4_NL = np.dtype([("d", "<f2"), ("qs", "u1", 16)])

_IQ4_LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.int16)

Items = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]


def decode_q4_k(items: Items) -> QuantBlocks:
    """Levels 0..15, each of the eight parts with a scale and an offset of 6 bits."""
    return _affine(items, _nibbles(items["qs"]))


def decode_q5_k(items: Items) -> QuantBlocks:
    """As Q4_K, with a fifth bit of each level: bit ``p`` of byte ``i`` belongs to value ``i`` of part ``p``."""
    parts = np.arange(8, dtype=np.uint8)[:, None]
    fifth = (items["qh"][..., None, :] >> parts) & 1
    return _affine(items, _nibbles(items["qs"]) + (fifth << 4))


def decode_q6_k(items: Items) -> QuantBlocks:
    """Levels -32..31 in parts of 16 with an 8-bit scale, which is multiplied into the stored integers here."""
    lead = items.shape
    low = items["ql"].reshape(*lead, 2, 2, 32)
    high = items["qh"].reshape(*lead, 2, 1, 32)
    # NOTE: in each half the four runs of 32 take the low nibbles of both byte runs, then the high ones.
    nibbles = np.concatenate([low & 0x0F, low >> 4], axis=-2)
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    levels = (nibbles | (((high >> shifts) & 3) << 4)).astype(np.int16) - np.int16(32)
    parts = levels.reshape(*lead, 16, 16) * items["scales"].astype(np.int16)[..., None]
    scales = np.repeat(items["d"].astype(np.float32)[..., None], SUPER_BLOCK // 32, axis=-1)
    return QuantBlocks(values=_rows(parts.reshape(*lead, 8, 32)), scales=scales.reshape(lead[0], -1), offsets=None)


def decode_iq4_nl(items: Items) -> QuantBlocks:
    """Sixteen fixed levels that are not evenly spaced; as integers they are within 8 bits."""
    packed = items["qs"]
    values = _IQ4_LEVELS[np.concatenate([packed & 0x0F, packed >> 4], axis=-1)]
    return QuantBlocks(values=values, scales=items["d"].astype(np.float32), offsets=None)


def _nibbles(packed: Bytes) -> Bytes:
    """``[..., 128]`` bytes to ``[..., 8, 32]``: the low nibbles of 32 bytes are a part, the high ones the next."""
    runs = packed.reshape(*packed.shape[:-1], 4, 1, 32)
    return np.concatenate([runs & 0x0F, runs >> 4], axis=-2).reshape(*packed.shape[:-1], 8, 32)


def _affine(items: Items, levels: Bytes) -> QuantBlocks:
    scales, offsets = _six_bit_parts(items["scales"])
    steps = items["d"].astype(np.float32)[..., None] * scales
    lows = -(items["dmin"].astype(np.float32)[..., None] * offsets)
    rows = len(items)
    return QuantBlocks(_rows(levels.astype(np.int16)), steps.reshape(rows, -1), lows.reshape(rows, -1))


def _six_bit_parts(packed: Bytes) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Scales and offsets of the eight parts from 12 bytes: six bits each, the last four split in 4 and 2."""
    first, second, third = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = np.concatenate([first & 63, (third & 0x0F) | ((first >> 6) << 4)], axis=-1)
    offsets = np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=-1)
    return scales.astype(np.float32), offsets.astype(np.float32)


def _rows(values: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """``[rows, super-blocks, 8, 32]`` to ``[rows, blocks, 32]``."""
    return values.reshape(values.shape[0], -1, 32)
