"""How a file format names and packs the tensors of a family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from build_engine.families.names import expected_tensors
from runtime.bundle.architecture import Architecture

_CANONICAL_LAYER = re.compile(r"model\.layers\.(\d+)\.")

Run = tuple[int, int]
"""First row and the one after the last."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Several projections stored as the rows of one tensor.

    Attributes:
        module: Its name in the file, without the layer.
        parts: Canonical modules in the order of their rows.
        by_kv_head: Each key-value head has its share of every part together (InternLM2), rather than each part all of
            its rows.
    """

    module: str
    parts: tuple[str, ...]
    by_kv_head: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a checkpoint's file differs from the canonical names, rows and values; by default nowhere.

    Attributes:
        layers: What stands before a layer's number.
        modules: Canonical module -> its name in the file, where that is another one.
        packed: Modules that lie together.
        norm_offset: Added to the weights of norms: 1 where the file has ``w`` of ``x * (1 + w)``.
        interleaved: Q and K rows are in the order of interleaved rotation.
    """

    layers: str = "model.layers."
    modules: Mapping[str, str] = field(default_factory=dict)
    packed: tuple[Packed, ...] = ()
    norm_offset: float = 0.0
    interleaved: bool = False

    def name(self, canonical: str) -> str:
        """Name in the file of the tensor ``canonical``, or of the one it is packed into."""
        layer, module, suffix = _split(canonical)
        pack = self._pack(layer, module)
        stored = pack.module if pack else self.modules.get(module, module)
        return f"{layer and f'{self.layers}{layer}.'}{stored}.{suffix}"

    def pack(self, canonical: str) -> Packed | None:
        """What the tensor ``canonical`` is packed into, or ``None`` where it lies alone."""
        layer, module, _ = _split(canonical)
        return self._pack(layer, module)

    def _pack(self, layer: str, module: str) -> Packed | None:
        return next((pack for pack in self.packed if layer and module in pack.parts), None)


CANONICAL = Layout()
"""Files that hold what the rest of the build wants."""

_GGUF_MODULES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.output_norm": "post_attention_norm",
    "mlp.output_norm": "post_ffw_norm",
}
GGUF = Layout(layers="blk.", modules=_GGUF_MODULES)
"""GGUF files, as most families have them."""


@dataclass(frozen=True, slots=True)
class Part:
    """A canonical tensor inside a tensor of a file.

    Attributes:
        rows: Where its rows lie, in their order; empty where it is the whole tensor.
    """

    name: str
    rows: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that a file has to hold: its shape, and what it is made of."""

    shape: tuple[int, ...]
    parts: tuple[Part, ...]


def stored_tensors(layout: Layout, architecture: Architecture) -> dict[str, StoredTensor]:
    """What a file of ``layout`` has to hold for ``architecture``, by name in the file."""
    shapes = expected_tensors(architecture)
    stored: dict[str, StoredTensor] = {}
    for canonical, shape in shapes.items():
        name, pack = layout.name(canonical), layout.pack(canonical)
        if pack is None:
            stored[name] = StoredTensor(shape, (Part(canonical),))
        elif name not in stored:
            layer, _, suffix = _split(canonical)
            names = [f"model.layers.{layer}.{part}.{suffix}" for part in pack.parts]
            groups = architecture.num_kv_heads if pack.by_kv_head else 1
            stored[name] = _packed([(part, shapes[part]) for part in names], groups)
    return stored


def _packed(parts: list[tuple[str, tuple[int, ...]]], groups: int) -> StoredTensor:
    """Each of ``groups`` has an equal share of every part."""
    total = sum(shape[0] for _, shape in parts)
    found: list[Part] = []
    offset = 0
    for name, shape in parts:
        share = shape[0] // groups
        starts = [group * (total // groups) + offset for group in range(groups)]
        found.append(Part(name, tuple((start, start + share) for start in starts)))
        offset += share
    return StoredTensor((total, *parts[0][1][1:]), tuple(found))


def _split(canonical: str) -> tuple[str, str, str]:
    """Layer number (empty outside of layers), module and suffix (``weight``, ``bias``)."""
    module, suffix = canonical.rsplit(".", 1)
    match = _CANONICAL_LAYER.match(module)
    return (match[1], module[match.end() :], suffix) if match else ("", module, suffix)
