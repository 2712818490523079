"""The tensor encodings of GGUF that are read, and their dequantisation.

Blocks hold 32 values of one row, those of the K-quants 256. Block layouts: ``ggml-common.h`` of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import QuantBlocks
from build_engine.readers import gguf_k_quants as k_quants

BLOCK = 32

_Q4_0 = np.dtype([("d", "<f2"), ("qs", "u1", BLOCK // 2)])
_Q4_1 = np.dtype([("d", "<f2"), ("m", "<f2"), ("qs", "u1", BLOCK // 2)])
_Q8_0 = np.dtype([("d", "<f2"), ("qs", "i1", BLOCK)])


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way of storing a row.

    Attributes:
        name: As in ``CheckpointTensor.encoding``.
        elements: Values that one ``dtype`` item holds.
        dtype: The item, a structured type for blocks.
    """

    name: str
    elements: int
    dtype: np.dtype[np.void] | np.dtype[np.generic]

    @property
    def is_block(self) -> bool:
        """Whether values are quantised in blocks."""
        return self.elements > 1


ENCODINGS: dict[int, Encoding] = {
    0: Encoding("f32", 1, np.dtype("<f4")),
    1: Encoding("f16", 1, np.dtype("<f2")),
    2: Encoding("q4_0", BLOCK, _Q4_0),
    3: Encoding("q4_1", BLOCK, _Q4_1),
    8: Encoding("q8_0", BLOCK, _Q8_0),
    12: Encoding("q4_k", k_quants.SUPER_BLOCK, k_quants.Q4_K),
    13: Encoding("q5_k", k_quants.SUPER_BLOCK, k_quants.Q5_K),
    14: Encoding("q6_k", k_quants.SUPER_BLOCK, k_quants.Q6_K),
    20: Encoding("iq4_nl", BLOCK, k_quants.IQ4_NL),
    30: Encoding("bf16", 1, np.dtype("<u2")),
}
"""GGUF's type number -> encoding."""

UNSUPPORTED_NAMES: dict[int, str] = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
"""Names of encodings that exist but are not read, for messages."""


def decode_float(raw: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.float32]:
    """Float32 values of ``raw`` stored as ``f32``, ``f16`` or ``bf16`` (the latter viewed as uint16)."""
    if name == "bf16":
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return raw.astype(np.float32)


_K_QUANTS = {
    "q4_k": k_quants.decode_q4_k,
    "q5_k": k_quants.decode_q5_k,
    "q6_k": k_quants.decode_q6_k,
    "iq4_nl": k_quants.decode_iq4_nl,
}


def decode_blocks(raw: npt.NDArray[np.void], name: str) -> QuantBlocks:
    """Stored integers, scales and offsets of blocks ``raw``, shape ``[rows, columns / elements]``."""
    if name in _K_QUANTS:
        return _K_QUANTS[name](raw)
    scales = raw["d"].astype(np.float32)
    if name == "q8_0":
        return QuantBlocks(values=raw["qs"].astype(np.int16), scales=scales, offsets=None)
    # NOTE: the low nibbles are the first 16 values of a block and the high nibbles the last 16, not interleaved.
    values = np.concatenate([raw["qs"] & 0x0F, raw["qs"] >> 4], axis=-1).astype(np.int16)
    if name == "q4_0":
        return QuantBlocks(values=values - np.int16(8), scales=scales, offsets=None)
    return QuantBlocks(values=values, scales=scales, offsets=raw["m"].astype(np.float32))


def dequantize(blocks: QuantBlocks) -> npt.NDArray[np.float32]:
    """Float32 matrix ``[rows, columns]`` of ``scale * q + offset``."""
    values = blocks.values.astype(np.float32)
    values *= blocks.scales[..., None]
    if blocks.offsets is not None:
        values += blocks.offsets[..., None]
    return values.reshape(values.shape[0], -1)
