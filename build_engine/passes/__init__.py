"""Passes over a checkpoint: canonical tensors in, canonical tensors of an equal model out."""

from __future__ import annotations

from build_engine.passes.rotate import can_rotate, refusal, rotated

__all__ = ["can_rotate", "refusal", "rotated"]
