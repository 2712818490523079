"""Sampling defaults that a model ships in its ``generation_config.json``, by LightLLM's rule."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

TRANSFORMERS_TOP_K = 50
"""What Hugging Face's loader fills in for a file that is silent on ``top_k``, and LightLLM with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDefaults:
    """Values of the request fields of the same names where a request leaves them out."""

    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0

    def __str__(self) -> str:
        """``name=value`` of every field."""
        return " ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))


def read_defaults(path: Path) -> tuple[GenerationDefaults, list[str]]:
    """Read a ``generation_config.json``; a missing or empty one gives LightLLM's own defaults.

    Returns:
        The defaults, and one message for each value that cannot be used and was left out.
    """
    if not path.is_file():
        return GenerationDefaults(), []
    try:
        content: Any = msgspec.json.decode(path.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return GenerationDefaults(), [f"{path} is not valid JSON and is ignored"]
    if not isinstance(content, dict) or not content:
        return GenerationDefaults(), []
    defaults, problems = GenerationDefaults(top_k=TRANSFORMERS_TOP_K), []
    for name in (f.name for f in fields(GenerationDefaults)):
        value = content.get(name)
        if value is None:
            continue
        if _usable(name, value):
            kind = type(getattr(defaults, name))
            defaults = replace(defaults, **{name: kind(value)})
            if defaults.top_k == 0:  # Hugging Face's way to say: the whole vocabulary
                defaults = replace(defaults, top_k=-1)
        else:
            problems.append(f"{path}: {name}={value!r} is out of range and is ignored")
    return defaults, problems


def _usable(name: str, value: Any) -> bool:
    if name == "do_sample":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if name == "top_k":
        return isinstance(value, int) and -1 <= value < 2**31
    if name == "top_p":
        return 0 < value <= 1
    if name == "repetition_penalty":
        return 1 <= value <= 1e30
    return 0 <= value <= 1e30
