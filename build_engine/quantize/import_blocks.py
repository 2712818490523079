"""GGUF blocks as groups of 32, every value exactly."""

from __future__ import annotations

import numpy as np

from build_engine.checkpoint import QuantBlocks
from build_engine.quantize.matrix import QuantMatrix


def import_blocks(blocks: QuantBlocks, bits: int) -> QuantMatrix:
    """Blocks with offsets keep their integers as levels; the others lie around the middle level.

    Args:
        blocks: Integers in ``[0, 2**bits)`` with offsets, in ``[-2**(bits-1), 2**(bits-1))`` without.
        bits: 4 or 8.
    """
    middle = 0 if blocks.offsets is not None else 1 << (bits - 1)
    levels = (blocks.values + np.int16(middle)).astype(np.uint8)
    return QuantMatrix(bits, levels, blocks.scales, blocks.offsets).narrowed()
