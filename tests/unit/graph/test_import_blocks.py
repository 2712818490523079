from __future__ import annotations

import numpy as np
import pytest
from tiny import BlockTensor, block_tensor

from build_engine.checkpoint import QuantBlocks
from build_engine.quantize.import_blocks import import_blocks


def _random_tensor(encoding: str, seed: int = 0) -> BlockTensor:
    values = np.random.default_rng(seed).standard_normal((48, 96)).astype(np.float32)
    return block_tensor("w", values, encoding)


@pytest.mark.parametrize(("encoding", "bits"), [("q8_0", 8), ("q4_0", 4), ("q4_1", 4)])
def test_blocks_are_kept_exactly(encoding: str, bits: int) -> None:
    tensor = _random_tensor(encoding)
    matrix = import_blocks(tensor.blocks(), bits)
    assert (matrix.bits, matrix.group, matrix.offsets is not None) == (bits, 32, encoding == "q4_1")
    np.testing.assert_array_equal(matrix.float32(), tensor.float32())
    np.testing.assert_array_equal(matrix.widened().float32(), tensor.float32())


def test_scales_of_the_file_stay_in_two_bytes() -> None:
    for encoding in ("q8_0", "q4_0", "q4_1"):
        matrix = import_blocks(_random_tensor(encoding).blocks(), 8 if encoding == "q8_0" else 4)
        assert matrix.scales.dtype == np.float16
        assert matrix.offsets is None or matrix.offsets.dtype == np.float16


def test_scales_that_float16_does_not_hold_stay_in_float32() -> None:
    blocks = QuantBlocks(
        np.zeros((1, 1, 32), np.int16), np.full((1, 1), 0.1, np.float32), np.full((1, 1), 0.5, np.float32)
    )
    matrix = import_blocks(blocks, 4)
    assert matrix.offsets is not None
    assert (matrix.scales.dtype, matrix.offsets.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(matrix.float32(), np.full((1, 32), 0.5, np.float32))
