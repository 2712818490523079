"""The decoder graph in ONNX and its weight file."""

from build_engine.graph.builder import GraphBuilder
from build_engine.graph.decoder import DecoderGraph
from build_engine.graph.fusion import fuse_norms
from build_engine.graph.layers import Progress
from build_engine.graph.linear import FloatLinears, Linears, QuantLinears
from build_engine.graph.weight_file import WeightFile

__all__ = [
    "DecoderGraph",
    "FloatLinears",
    "GraphBuilder",
    "Linears",
    "Progress",
    "QuantLinears",
    "WeightFile",
    "fuse_norms",
]
