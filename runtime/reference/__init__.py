"""Plain NumPy versions of what the engines compute."""

from runtime.reference.attention import paged_attention, rotary_tables

__all__ = ["paged_attention", "rotary_tables"]
