"""What a build can be asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from build_engine.errors import BuildError
from build_engine.recipes import KV_DTYPES, PRECISIONS, BuildDefaults

TARGETS = ("cpu",)
"""Targets that this version builds."""
KNOWN_TARGETS = ("cpu", "cuda", "tensorrt", "tensorrt-rtx")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_MAX_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Choices of a build.

    Attributes:
        target: What the engine runs on.
        precision: ``None`` takes the recipe's. ``auto`` keeps the quantised blocks of a GGUF and rounds float weights
            to int8 where the widths are multiples of 32.
        kv_dtype: Element type of the KV cache; ``None`` takes the recipe's.
        block_size: Tokens in a KV block.
        name: Of the model in the manifest; ``None`` takes the recipe's or the file's.
        output: Directory of the bundle; ``None`` is one in the cache, named after its content.
        verify: Compare the engine with the float32 reference before it is published.
        force: Build even if the bundle exists.
    """

    target: str = "cpu"
    precision: str | None = None
    kv_dtype: str | None = None
    block_size: int = 16
    name: str | None = None
    output: Path | None = None
    verify: bool = True
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Options with every default filled in: what decides how the engine comes out."""

    target: str
    precision: Literal["auto", "import", "int8", "int4", "fp32"]
    kv_dtype: Literal["float16", "float32"]
    block_size: int


def complete(options: BuildOptions, defaults: BuildDefaults) -> Profile:
    """The profile of ``options``, with a recipe's defaults where they say nothing.

    Raises:
        BuildError: An option has a value that this version cannot build.
    """
    if options.target not in TARGETS:
        known = options.target in KNOWN_TARGETS
        what = "cannot be built by this version" if known else "is not known"
        raise BuildError(f"target {options.target!r} {what}; targets: {', '.join(TARGETS)}")
    precision = options.precision or defaults.precision
    kv_dtype = options.kv_dtype or defaults.kv_dtype
    if precision not in PRECISIONS:
        raise BuildError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if kv_dtype not in KV_DTYPES:
        raise BuildError(f"kv-dtype {kv_dtype!r} is not one of {', '.join(KV_DTYPES)}")
    if not 1 <= options.block_size <= _MAX_BLOCK:
        raise BuildError(f"block-size {options.block_size} is not between 1 and {_MAX_BLOCK}")
    if options.name is not None and not _NAME.fullmatch(options.name):
        raise BuildError(f"name {options.name!r} has to be letters, digits, '.', '_' and '-'")
    return Profile(
        target=options.target,
        precision=precision,  # type: ignore[arg-type]  # checked against PRECISIONS above
        kv_dtype=kv_dtype,  # type: ignore[arg-type]  # checked against KV_DTYPES above
        block_size=options.block_size,
    )
