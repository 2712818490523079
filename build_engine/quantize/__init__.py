"""Weight quantisation for grouped integer matrix products."""

from build_engine.quantize.choose import Precision, quantise
from build_engine.quantize.matrix import GROUP, QuantMatrix, stack_rows

__all__ = ["GROUP", "Precision", "QuantMatrix", "quantise", "stack_rows"]
