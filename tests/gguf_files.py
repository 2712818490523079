"""Writes GGUF files, sound and broken, byte by byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tiny import VOCAB_SIZE, block_tensor, byte_tokenizer_json, tiny_architecture, tiny_weight

from build_engine.families import expected_tensors
from build_engine.families.layout import GGUF
from runtime.bundle.architecture import Architecture

U8, U16, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 2, 4, 5, 6, 7, 8, 9, 10
TYPES = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q8_0": 8,
    "q4_k": 12,
    "q5_k": 13,
    "q6_k": 14,
    "iq4_nl": 20,
    "bf16": 30,
}
_FORMATS = {U8: "<B", U16: "<H", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}


@dataclass
class GgufFile:
    """A GGUF file to be; every field can be made to lie.

    ``metadata`` entries are ``(key, type, value)``, arrays having the type ``(ARRAY, element type)``; ``tensors`` are
    ``(name, dimensions in file order, type number, data)``.
    """

    metadata: list[tuple[str, Any, Any]] = field(default_factory=list)
    tensors: list[tuple[str, tuple[int, ...], int, bytes]] = field(default_factory=list)
    magic: bytes = b"GGUF"
    version: int = 3
    alignment: int = 32
    tensor_count: int | None = None
    metadata_count: int | None = None
    offsets: dict[str, int] = field(default_factory=dict)

    def build(self) -> tuple[bytes, list[int]]:
        """The bytes, and the offset at which each section of the header ends."""
        out = bytearray(self.magic + struct.pack("<I", self.version))
        boundaries = [4, 8]
        for claimed, actual in ((self.tensor_count, self.tensors), (self.metadata_count, self.metadata)):
            out += struct.pack("<Q", len(actual) if claimed is None else claimed)
            boundaries.append(len(out))
        for key, kind, value in self.metadata:
            out += _string(key) + _typed(kind, value)
            boundaries.append(len(out))
        data = bytearray()
        for name, dimensions, kind, content in self.tensors:
            offset = self.offsets.get(name, len(data))
            out += _string(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
            out += struct.pack("<IQ", kind, offset)
            boundaries.append(len(out))
            data += content + b"\0" * (-len(content) % self.alignment)
        out += b"\0" * (-len(out) % self.alignment)
        return bytes(out + data), boundaries

    def write(self, path: Path) -> Path:
        path.write_bytes(self.build()[0])
        return path


def _string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def _typed(kind: Any, value: Any) -> bytes:
    if isinstance(kind, tuple):
        _, element = kind
        items = b"".join(_plain(element, item) for item in value)
        return struct.pack("<IIQ", ARRAY, element, len(value)) + items
    return struct.pack("<I", kind) + _plain(kind, value)


def _plain(kind: int, value: Any) -> bytes:
    return _string(value) if kind == STRING else struct.pack(_FORMATS[kind], value)


def tensor_bytes(values: npt.NDArray[np.float32], encoding: str) -> bytes:
    """``values`` as GGUF stores them; block encodings as ``tiny.block_tensor`` rounds them."""
    if encoding == "f32":
        return values.astype("<f4").tobytes()
    if encoding == "f16":
        return values.astype("<f2").tobytes()
    if encoding == "bf16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    blocks = block_tensor("", values, encoding).blocks()
    scales = blocks.scales.astype("<f2")[..., None].view(np.uint8)
    if encoding == "q8_0":
        return np.concatenate([scales, blocks.values.astype(np.int8).view(np.uint8)], axis=-1).tobytes()
    levels = (blocks.values + (8 if encoding == "q4_0" else 0)).astype(np.uint8)
    nibbles = levels[..., :16] | (levels[..., 16:] << 4)
    offsets = [] if blocks.offsets is None else [blocks.offsets.astype("<f2")[..., None].view(np.uint8)]
    return np.concatenate([scales, *offsets, nibbles], axis=-1).tobytes()


def interleaved(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Q or K rows as llama.cpp's converter permutes them (``LlamaModel.permute``)."""
    split = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return split.swapaxes(1, 2).reshape(values.shape)


def byte_vocabulary() -> list[str]:
    """The tokens of ``tiny.byte_tokenizer_json``."""
    import json

    vocabulary = json.loads(byte_tokenizer_json())["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def tokenizer_metadata(**changes: Any) -> list[tuple[str, Any, Any]]:
    """A byte-level tokenizer with two merges in place of its last two byte tokens' neighbours."""
    tokens = byte_vocabulary()
    types = [3, 3, 3, 3] + [1] * 256
    entries: dict[str, tuple[Any, Any]] = {
        "model": (STRING, "gpt2"),
        "pre": (STRING, "smollm"),
        "tokens": ((ARRAY, STRING), [*tokens, "he", "Ġt"]),
        "token_type": ((ARRAY, I32), [*types, 1, 1]),
        "merges": ((ARRAY, STRING), ["h e", "Ġ t"]),
        "bos_token_id": (U32, 0),
        "eos_token_id": (U32, 1),
        "add_bos_token": (BOOL, False),
    }
    entries |= changes
    return [(f"tokenizer.ggml.{key}", kind, value) for key, (kind, value) in entries.items() if kind is not None]


GGUF_VOCAB = VOCAB_SIZE + 2


def architecture_metadata(architecture: Architecture, name: str) -> list[tuple[str, Any, Any]]:
    """The metadata keys from which a reader gets ``architecture`` back."""
    entries: list[tuple[str, Any, Any]] = [
        ("block_count", U32, architecture.num_layers),
        ("context_length", U32, architecture.context_length),
        ("embedding_length", U32, architecture.hidden_size),
        ("feed_forward_length", U32, architecture.intermediate_size),
        ("attention.head_count", U32, architecture.num_heads),
        ("attention.head_count_kv", U32, architecture.num_kv_heads),
        ("attention.key_length", U32, architecture.head_dim),
        ("attention.value_length", U32, architecture.head_dim),
        ("attention.layer_norm_rms_epsilon", F32, architecture.norm_eps),
        ("rope.freq_base", F32, architecture.rope_theta),
    ]
    if architecture.sliding_windows:
        entries.append(("attention.sliding_window", U32, max(architecture.sliding_windows)))
    if architecture.rope_dim:
        entries.append(("rope.dimension_count", U32, architecture.rope_dim))
    if architecture.attention_softcap:
        entries.append(("attn_logit_softcapping", F32, architecture.attention_softcap))
        entries.append(("final_logit_softcapping", F32, architecture.logits_softcap))
    keys = [(f"{name}.{key}", kind, value) for key, kind, value in entries]
    return [("general.architecture", STRING, name), *keys]


def gguf_weights(architecture: Architecture) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of ``tiny.tiny_weight`` with seed 0 under GGUF's names, as llama.cpp's converter stores them."""
    shapes = expected_tensors(architecture)
    weights = {name: tiny_weight(name, shape, 0) for name, shape in shapes.items()}
    if architecture.family in ("llama", "internlm2"):
        for name in weights:
            for projection, heads in (("q_proj", architecture.num_heads), ("k_proj", architecture.num_kv_heads)):
                if projection in name:
                    weights[name] = interleaved(weights[name], heads)
    named = {GGUF.name(name): values for name, values in weights.items()}
    if architecture.family == "phi3":
        for layer in range(architecture.num_layers):
            block = f"blk.{layer}."
            parts = [named.pop(f"{block}attn_{part}.weight") for part in "qkv"]
            named[f"{block}attn_qkv.weight"] = np.concatenate(parts)
            parts = [named.pop(f"{block}ffn_{part}.weight") for part in ("gate", "up")]
            named[f"{block}ffn_up.weight"] = np.concatenate(parts)
    return named


def model_file(family: str = "llama", encoding: str = "q8_0", **overrides: Any) -> GgufFile:
    """A whole tiny model of ``gguf_weights``."""
    architecture = tiny_architecture(family, vocab_size=GGUF_VOCAB, **overrides)
    tensors = []
    for name, values in gguf_weights(architecture).items():
        kind = encoding if values.ndim > 1 else "f32"
        tensors.append((name, values.shape[::-1], TYPES[kind], tensor_bytes(values, kind)))
    metadata = architecture_metadata(architecture, family) + tokenizer_metadata()
    return GgufFile(metadata=metadata, tensors=tensors)


def split_files(file: GgufFile, path: Path, count: int) -> list[Path]:
    """Writes ``file`` in ``count`` parts named after ``path``, as ``llama-gguf-split`` does; the parts."""
    paths = []
    for index in range(count):
        own = [("split.no", U16, index), ("split.count", U16, count), ("split.tensors.count", I32, len(file.tensors))]
        part = GgufFile(metadata=(file.metadata if index == 0 else []) + own, tensors=file.tensors[index::count])
        paths.append(part.write(path.with_name(f"{path.stem}-{index + 1:05}-of-{count:05}.gguf")))
    return paths
