"""Element types that a slot graph computes in."""

from __future__ import annotations

from typing import Literal

Element = Literal["float32", "float16", "bfloat16"]
