"""Which quantised form a weight takes under each precision."""

from __future__ import annotations

from typing import Literal

from build_engine.checkpoint import CheckpointTensor
from build_engine.errors import BuildError
from build_engine.quantize.import_blocks import import_blocks
from build_engine.quantize.matrix import GROUP, QuantMatrix
from build_engine.quantize.round_weights import round_int4, round_int8

Precision = Literal["import", "int8", "int4", "fp32"]

IMPORTED_BITS = {"q8_0": 8, "iq4_nl": 8, "q4_0": 4, "q4_1": 4, "q4_k": 4, "q5_k": 8}
"""Encoding -> bits of the levels that hold its integers."""


def quantise(tensor: CheckpointTensor, precision: Precision, group: int = GROUP) -> QuantMatrix:
    """Quantises one linear weight or embedding table.

    ``import`` keeps the checkpoint's own blocks; float tensors and Q6_K, whose groups are of 16, are rounded to
    ``int8``. ``int8`` and ``int4`` round float values, and Q8_0 or Q4_0 blocks that already are what was asked for are
    kept.

    Args:
        tensor: The weight.
        precision: Any but ``fp32``.
        group: Columns that share a scale where float values become ``int8`` and the columns allow it: 32 or 64.

    Raises:
        BuildError: The columns are not a multiple of 32.
    """
    rows, columns = tensor.shape
    if columns % GROUP:
        raise BuildError(
            f"{tensor.name}: {columns} columns are not a multiple of {GROUP}, the group of every quantised precision; "
            f"build with precision fp32"
        )
    bits = IMPORTED_BITS.get(tensor.encoding)
    if bits is not None and (precision == "import" or (precision, tensor.encoding) in _ALREADY):
        return import_blocks(tensor.blocks(), bits)
    weights = tensor.float32().reshape(rows, columns)
    if precision == "int4":
        return round_int4(weights)
    return round_int8(weights, GROUP if columns % group else group)


_ALREADY = {("int8", "q8_0"), ("int4", "q4_0")}
