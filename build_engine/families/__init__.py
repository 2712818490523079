"""Model families: how a checkpoint's configuration becomes an ``Architecture``, and what tensors it then holds."""

from build_engine.families.names import expected_tensors, gguf_name_map
from build_engine.families.registry import (
    FAMILIES,
    architecture_from_config,
    architecture_from_gguf,
    gguf_family,
)

__all__ = [
    "FAMILIES",
    "architecture_from_config",
    "architecture_from_gguf",
    "expected_tensors",
    "gguf_family",
    "gguf_name_map",
]
