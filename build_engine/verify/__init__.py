"""Verification of a built engine against a float32 reference."""

from build_engine.verify.compare import verify_bundle
from build_engine.verify.session import EngineSession

__all__ = ["EngineSession", "verify_bundle"]
