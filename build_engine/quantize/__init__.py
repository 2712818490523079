"""Weight quantisation for grouped integer matrix products."""

from build_engine.quantize.choose import Precision, quantise
from build_engine.quantize.matrix import GROUP, QuantMatrix, stack_rows
from build_engine.quantize.tiles import pack_tiles

__all__ = ["GROUP", "Precision", "QuantMatrix", "pack_tiles", "quantise", "stack_rows"]
