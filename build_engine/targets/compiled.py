"""What a target hands back."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.bundle.manifest import EngineRecord, KvLayout


@dataclass(frozen=True, slots=True)
class CompiledEngine:
    """What the manifest has to know about a compiled engine.

    Attributes:
        precision: Of the linear layers, e.g. ``q8-g32``.
        kv: Layout of the KV pools that the graph reads.
        target_versions: Package -> version compiled with.
        limits: Upper bounds baked into the graph.
        engine: Of a compiler's engines.
    """

    precision: str
    kv: KvLayout
    target_versions: dict[str, str]
    limits: dict[str, int]
    engine: EngineRecord | None = None
