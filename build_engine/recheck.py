"""Verifies a published bundle again, from the checkpoint it was built from."""

from __future__ import annotations

from build_engine.errors import BuildError
from build_engine.progress import Progress
from build_engine.sources import resolve_source
from build_engine.verify import verify_bundle
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import ScoreVerification, Verification


def recheck(bundle: Bundle, progress: Progress) -> Verification | ScoreVerification:
    """Compare the engine of ``bundle`` with the float32 reference of its checkpoint.

    Raises:
        BuildError: The checkpoint is gone, or is not the one the bundle was built from, or the engine needs a GPU.
    """
    manifest = bundle.manifest
    if manifest.engine is not None:
        raise BuildError(
            f"{bundle.path}: is compiled for target {manifest.target}, and verification runs on the CPU; inspect shows "
            "what its build checked"
        )
    source = manifest.source
    checkpoint = resolve_source(source.spec or source.path, progress).open(progress)
    if checkpoint.source.digest != source.digest:
        raise BuildError(
            f"{checkpoint.source.path}: has changed since the bundle was built (sha256 "
            f"{checkpoint.source.digest[:12]}..., the bundle has {source.digest[:12]}...)"
        )
    return verify_bundle(bundle.path, checkpoint, manifest.kv.block_size, progress, kind=manifest.kv.kind)
