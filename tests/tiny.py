"""Tiny checkpoints with seeded random weights, in memory and without torch, for any test that needs a model."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import Checkpoint, QuantBlocks
from build_engine.errors import CheckpointError
from build_engine.families import expected_tensors
from runtime.bundle.architecture import Architecture
from runtime.bundle.manifest import Source

BOS, EOS = 0, 1
FIRST_BYTE = 4
VOCAB_SIZE = FIRST_BYTE + 256
_SPECIAL_TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")

_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_windows": (5, 5)},
    "qwen2": {"attention_bias": True, "tied_embeddings": True},
    "qwen3": {"qk_norm": True, "head_dim": 32},
    "phi3": {},
    "gemma2": {
        "head_dim": 24,
        "norm_eps": 1e-6,
        "tied_embeddings": True,
        "sliding_windows": (5, 0),
        "activation": "gelu_tanh",
        "attention_scale": 40**-0.5,
        "attention_softcap": 3.0,
        "logits_softcap": 4.0,
        "embedding_scale": 8.0,
        "output_norms": True,
    },
    "internlm2": {},
}


@dataclass(frozen=True)
class FloatTensor:
    """A float32 weight held in memory."""

    name: str
    values: npt.NDArray[np.float32]
    encoding: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def float32(self) -> npt.NDArray[np.float32]:
        return self.values

    def blocks(self) -> QuantBlocks:
        raise CheckpointError(f"{self.name}: {self.encoding} has no blocks")


@dataclass(frozen=True)
class BlockTensor:
    """A weight held as GGUF blocks in memory."""

    name: str
    shape: tuple[int, ...]
    encoding: str
    quantised: QuantBlocks

    def float32(self) -> npt.NDArray[np.float32]:
        values = self.quantised.scales[..., None] * self.quantised.values
        if self.quantised.offsets is not None:
            values = values + self.quantised.offsets[..., None]
        return values.astype(np.float32).reshape(self.shape)

    def blocks(self) -> QuantBlocks:
        return self.quantised


def tiny_architecture(family: str = "llama", **overrides: Any) -> Architecture:
    """Two layers, 64 wide, four heads on two KV heads, 256 positions."""
    options: dict[str, Any] = {
        "family": family,
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 16,
        "context_length": 256,
    }
    return Architecture(**(options | _FAMILIES[family] | overrides))


def tiny_checkpoint(family: str = "llama", *, encoding: str = "f32", seed: int = 0, **overrides: Any) -> Checkpoint:
    """A checkpoint of one family.

    Args:
        family: ``llama``, ``mistral`` (window 5), ``qwen2`` (biases, tied), ``qwen3`` (q/k norm), ``phi3``, ``gemma2``
            (all its options, tied) or ``internlm2``.
        encoding: ``f32``, or ``q8_0``, ``q4_0``, ``q4_1`` for matrices in GGUF blocks.
        seed: Selects the weights.
        overrides: Fields of `Architecture`.
    """
    architecture = tiny_architecture(family, **overrides)
    tensors: dict[str, FloatTensor | BlockTensor] = {}
    for name, shape in expected_tensors(architecture).items():
        values = tiny_weight(name, shape, seed)
        matrix = len(shape) == 2 and encoding != "f32"
        tensors[name] = block_tensor(name, values, encoding) if matrix else FloatTensor(name, values)
    return Checkpoint(
        source=Source(kind="huggingface", name=f"tiny-{family}", path=f"tiny-{family}", digest="0" * 64),
        architecture=architecture,
        tensors=tensors,
        tokenizer_json=byte_tokenizer_json(),
        chat_template=None,
        eos_token_ids=(EOS,),
        bos_token_id=BOS,
    )


def tiny_weights(checkpoint: Checkpoint) -> dict[str, npt.NDArray[np.float32]]:
    """All weights of a checkpoint as float32."""
    return {name: tensor.float32() for name, tensor in checkpoint.tensors.items()}


def tiny_weight(name: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float32]:
    """Random values that depend on the name, shape and seed alone.

    The legacy generator's streams are frozen, so goldens survive updates of NumPy.
    """
    draws = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode())).standard_normal(shape)
    if "norm" in name:
        return (1 + 0.2 * draws).astype(np.float32)
    if name.endswith(".bias"):
        return (0.5 * draws).astype(np.float32)
    gain = 1.0 if "embed" in name else 1.5
    return (gain * draws / np.sqrt(shape[-1])).astype(np.float32)


def block_tensor(name: str, values: npt.NDArray[np.float32], encoding: str) -> BlockTensor:
    """Quantises float values to GGUF blocks the plain way, with float16 scales."""
    groups = values.reshape(values.shape[0], -1, 32)
    offsets = None
    if encoding == "q4_1":
        low, high = groups.min(axis=2), groups.max(axis=2)
        scales, offsets = _half((high - low) / 15), _half(low)
        levels = np.clip(np.rint((groups - offsets[..., None]) / scales[..., None]), 0, 15)
    else:
        top = {"q8_0": 127, "q4_0": 7}[encoding]
        scales = _half(np.abs(groups).max(axis=2) / top)
        levels = np.clip(np.rint(groups / scales[..., None]), -top, top)
    return BlockTensor(name, values.shape, encoding, QuantBlocks(levels.astype(np.int16), scales, offsets))


def _half(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)


def byte_tokenizer_json() -> bytes:
    """A tokenizer with one token a byte (id = byte + 4) after four special tokens."""
    vocabulary = dict(zip(_SPECIAL_TOKENS, range(FIRST_BYTE), strict=True))
    vocabulary |= {character: FIRST_BYTE + byte for byte, character in enumerate(_byte_characters())}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(index, token) for index, token in enumerate(_SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    return json.dumps(tokenizer, ensure_ascii=False).encode()


def _added_token(index: int, content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, "special": True, **flags}


def _byte_characters() -> list[str]:
    """The printable stand-in of each byte in byte-level vocabularies (GPT-2)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]
