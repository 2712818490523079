"""Verification of a built engine against a float32 reference."""

from build_engine.verify.compare import verify_bundle

__all__ = ["verify_bundle"]
