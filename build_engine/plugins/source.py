"""The CUDA C++ text of the kernels for one spec, in one piece."""

from __future__ import annotations

import re
from importlib import resources

from build_engine.plugins.launch import SPLIT_KEYS, WARPS, attention_tile, scratch_width
from build_engine.plugins.spec import AttentionSpec

_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)


def kv_write_source(spec: AttentionSpec) -> str:
    """Source of ``paged_kv_write``."""
    return _specialised("paged_kv_write.cu", kv_write_macros(spec))


def attention_source(spec: AttentionSpec) -> str:
    """Source of ``paged_attention``."""
    name = "paged_attention_tensor.cu" if spec.tensor_cores else "paged_attention_generic.cu"
    return _specialised(name, attention_macros(spec))


def kv_write_macros(spec: AttentionSpec) -> dict[str, str]:
    """Macros of ``paged_kv_write.cu``."""
    return {
        **_common(spec),
        "ROTARY_DIM": str(spec.rotary_dim),
        "Q_SCALE": _float(spec.scale),
        "QK_NORM": str(int(spec.qk_norm)),
        "NORM_EPS": _float(spec.norm_eps),
        "WARPS": str(WARPS),
    }


def attention_macros(spec: AttentionSpec) -> dict[str, str]:
    """Macros of the two ``paged_attention`` kernels."""
    tile = attention_tile(spec)
    return {
        **_common(spec),
        "ROWS": str(tile.rows),
        "KEYS": str(tile.keys),
        "SPLITS": str(spec.splits),
        "SPLIT_TILES": str(SPLIT_KEYS // tile.keys),
        "WINDOW": str(spec.sliding_window),
        "SOFTCAP": _float(spec.softcap),
        "SCRATCH_WIDTH": str(scratch_width(spec)),
    }


def _common(spec: AttentionSpec) -> dict[str, str]:
    return {
        "ELEMENT_BF16": str(int(spec.dtype == "bfloat16")),
        "Q_HEADS": str(spec.num_heads),
        "KV_HEADS": str(spec.num_kv_heads),
        "HEAD_DIM": str(spec.head_dim),
        "BLOCK_SIZE": str(spec.block_size),
    }


def _float(value: float) -> str:
    return f"{value:.9e}f"


def _specialised(name: str, macros: dict[str, str]) -> str:
    defines = "".join(f"#define {macro} {value}\n" for macro, value in macros.items())
    return defines + _inlined(name, set())


def _inlined(name: str, seen: set[str]) -> str:
    """The file with its local includes in place; NVRTC then needs no file of ours."""
    seen.add(name)
    text = resources.files(__package__).joinpath("kernels", name).read_text(encoding="utf-8")
    text = text.replace("#pragma once\n", "")
    return _INCLUDE.sub(lambda match: "" if match[1] in seen else _inlined(match[1], seen), text)
