"""Bundles for people."""

from __future__ import annotations

from runtime.bundle.architecture import Architecture
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import ScoreVerification, Verification

_KV_BYTES = {"float16": 2, "float32": 4}


def manifest_lines(bundle: Bundle) -> list[str]:
    """What ``inspect`` shows."""
    manifest, architecture = bundle.manifest, bundle.manifest.architecture
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.target_versions.items()))
    limits = ", ".join(f"{name} {value}" for name, value in sorted(manifest.limits.items()))
    kv_bytes = architecture.kv_bytes_per_token(_KV_BYTES[manifest.kv.dtype])
    return [
        f"name           {manifest.name}",
        f"path           {bundle.path}",
        f"source         {manifest.source.kind} {manifest.source.path} (sha256 {manifest.source.digest[:12]}...)",
        f"architecture   {architecture.family}: {architecture.num_layers} layers of {architecture.hidden_size}, "
        f"{architecture.num_heads} heads of {architecture.head_dim} ({architecture.num_kv_heads} key-value), "
        f"vocabulary {architecture.vocab_size}{_head(architecture)}",
        f"target         {manifest.target} ({versions})",
        f"precision      {manifest.precision}",
        f"KV cache       {manifest.kv.kind}, blocks of {manifest.kv.block_size}, {manifest.kv.dtype}, "
        f"{kv_bytes:,} bytes per token",
        f"limits         {limits or 'none'}",
        f"end of text    {', '.join(map(str, manifest.eos_token_ids)) or 'none'}",
        f"built          {manifest.created} in {manifest.build_seconds:.1f} s, peak memory "
        f"{manifest.build_peak_bytes / 1e6:,.0f} MB",
        *verification_lines(manifest.verification),
        *(f"file           {entry.size:>14,} {entry.sha256[:12]} {entry.name}" for entry in manifest.files),
    ]


def _head(architecture: Architecture) -> str:
    head = architecture.score_head
    if head is None:
        return ""
    return f", score head with {head.hidden_size} hidden" if head.hidden_size else ", score head"


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
        f"verification   mean KL {verification.mean_kl:.4f} nats, top-1 agreement {verification.top1_agreement:.1%}, "
        f"perplexity {verification.perplexity:.2f} (float32 {verification.reference_perplexity:.2f}) "
        f"over {verification.tokens} tokens"
    ]
