"""Model families: how a checkpoint's configuration becomes an ``Architecture``, and what tensors it then holds."""

from build_engine.families.names import expected_tensors
from build_engine.families.registry import (
    FAMILIES,
    architecture_from_config,
    architecture_from_gguf,
    config_family,
    gguf_family,
)

__all__ = [
    "FAMILIES",
    "architecture_from_config",
    "architecture_from_gguf",
    "config_family",
    "expected_tensors",
    "gguf_family",
]
