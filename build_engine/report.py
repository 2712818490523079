"""Bundles for people."""

from __future__ import annotations

from runtime.bundle.architecture import Architecture
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import EngineRecord, Manifest, ScoreVerification, Verification


def manifest_lines(bundle: Bundle) -> list[str]:
    """What ``inspect`` shows."""
    manifest, architecture = bundle.manifest, bundle.manifest.architecture
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.target_versions.items()))
    limits = ", ".join(f"{name} {value}" for name, value in sorted(manifest.limits.items()))
    kv_bytes = architecture.kv_bytes_per_token(manifest.kv.element_bytes)
    return [
        f"name           {manifest.name}",
        f"path           {bundle.path}",
        f"source         {manifest.source.kind} {manifest.source.path} (sha256 {manifest.source.digest[:12]}...)",
        f"architecture   {architecture.family}: {architecture.num_layers} layers of {architecture.hidden_size}, "
        f"{architecture.num_heads} heads of {architecture.head_dim} ({architecture.num_kv_heads} key-value), "
        f"vocabulary {architecture.vocab_size}{_head(architecture)}",
        f"target         {manifest.target} ({versions})",
        f"precision      {manifest.precision}{', rotated residual stream' if manifest.rotated else ''}",
        f"KV cache       {manifest.kv.kind}, {'slots' if manifest.kv.kind == 'linear' else 'blocks'} of "
        f"{manifest.kv.block_size}, {manifest.kv.dtype}, "
        f"{kv_bytes:,} bytes per token",
        f"limits         {limits or 'none'}",
        f"end of text    {', '.join(map(str, manifest.eos_token_ids)) or 'none'}",
        f"built          {manifest.created} in {manifest.build_seconds:.1f} s, peak memory "
        f"{manifest.build_peak_bytes / 1e6:,.0f} MB",
        *_engine_lines(manifest.engine),
        *result_lines(manifest),
        *(f"file           {entry.size:>14,} {entry.sha256[:12]} {entry.name}" for entry in manifest.files),
    ]


def _head(architecture: Architecture) -> str:
    head = architecture.score_head
    if head is None:
        return ""
    return f", score head with {head.hidden_size} hidden" if head.hidden_size else ", score head"


def _engine_lines(engine: EngineRecord | None) -> list[str]:
    if engine is None:
        return []
    layers = ", ".join(f"{count} {name}" for name, count in sorted(engine.layers.items()))
    return [
        f"compiled       by {engine.flavour} {engine.version} for compute capability "
        f"{', '.join(engine.compute_capabilities) or 'of the build machine'} in {engine.build_seconds:.1f} s: "
        f"{engine.plan_bytes / 1e6:,.0f} MB, peak memory {engine.peak_bytes / 1e6:,.0f} MB",
        *(
            f"profile        {profile.name}: {_range(profile.batch)} slots of {_range(profile.tokens)} tokens, "
            f"{_range(profile.rows)} rows of results"
            for profile in engine.profiles
        ),
        f"layers         {layers}",
    ]


def _range(triple: tuple[int, int, int]) -> str:
    least, _, largest = triple
    return f"{least}" if least == largest else f"{least} to {largest}"


def result_lines(manifest: Manifest) -> list[str]:
    """How the engine was verified; of a compiled one, what it was made of."""
    engine = manifest.engine
    if engine is None:
        return verification_lines(manifest.verification)
    lines = [f"verification   of the plan: {engine.verified}"]
    if engine.oracle is None:
        return [*lines, "oracle         none"]
    (line,) = verification_lines(engine.oracle)
    graph = "(its graph and weights in float32 on the CPU)"
    return [*lines, f"{line.replace('verification  ', 'oracle        ')} {graph}"]


def verification_lines(verification: Verification | ScoreVerification | None) -> list[str]:
    """How far the engine is from float32."""
    if verification is None:
        return ["verification   none"]
    if isinstance(verification, ScoreVerification):
        return [
            f"verification   scores off by {verification.mean_error:.4f} in the mean, {verification.max_error:.4f} at "
            f"most, of a standard deviation of {verification.reference_deviation:.4f}; correlation "
            f"{verification.correlation:.5f} over {verification.tokens} tokens"
        ]
    return [
        f"verification   mean KL {verification.mean_kl:.3g} nats, top-1 agreement {verification.top1_agreement:.1%}, "
        f"perplexity {verification.perplexity:.2f} (float32 {verification.reference_perplexity:.2f}) "
        f"over {verification.tokens} tokens"
    ]
