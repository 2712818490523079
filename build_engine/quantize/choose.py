"""Which quantised form a weight takes under each precision."""

from __future__ import annotations

from typing import Literal

from build_engine.checkpoint import CheckpointTensor
from build_engine.errors import BuildError
from build_engine.quantize.import_blocks import import_q4_0, import_q4_1, import_q5_k, import_q8_0
from build_engine.quantize.matrix import GROUP, QuantMatrix
from build_engine.quantize.round_weights import round_int4, round_int8

Precision = Literal["import", "int8", "int4", "fp32"]

_IMPORTERS = {
    "q8_0": import_q8_0,
    "iq4_nl": import_q8_0,
    "q4_0": import_q4_0,
    "q4_1": import_q4_1,
    "q4_k": import_q4_1,
    "q5_k": import_q5_k,
}


def quantise(tensor: CheckpointTensor, precision: Precision) -> QuantMatrix:
    """Quantises one linear weight or embedding table.

    ``import`` keeps the checkpoint's own blocks; float tensors and Q6_K, whose groups are of 16, are rounded to
    ``int8``. ``int8`` and ``int4`` round float values, and Q8_0 or Q4_0 blocks that already are what was asked for are
    kept.

    Raises:
        BuildError: The columns are not a multiple of 32.
    """
    rows, columns = tensor.shape
    if columns % GROUP:
        raise BuildError(
            f"{tensor.name}: {columns} columns are not a multiple of {GROUP}, the group of every quantised precision; "
            f"build with precision fp32"
        )
    if precision == "import" and tensor.encoding in _IMPORTERS:
        return _IMPORTERS[tensor.encoding](tensor.blocks())
    if (precision, tensor.encoding) in {("int8", "q8_0"), ("int4", "q4_0")}:
        return _IMPORTERS[tensor.encoding](tensor.blocks())
    weights = tensor.float32().reshape(rows, columns)
    return round_int4(weights) if precision == "int4" else round_int8(weights)
