"""GGUF files as checkpoints."""

from __future__ import annotations

from pathlib import Path

from build_engine.checkpoint import Checkpoint
from build_engine.errors import CheckpointError
from build_engine.families import architecture_from_gguf, gguf_family
from build_engine.families.gguf_rope import FACTOR_TENSORS
from build_engine.readers.gguf_file import GgufFile
from build_engine.readers.gguf_parts import read_parts
from build_engine.readers.gguf_split import model_name
from build_engine.readers.gguf_tensors import GgufTensor, half_split_rows
from build_engine.readers.inventory import select_tensors
from build_engine.tokenizers.gguf import gguf_tokenizer
from runtime.bundle.architecture import Architecture
from runtime.bundle.manifest import Source


def open_gguf(path: Path, *, name: str = "", digest: str = "") -> Checkpoint:
    """Open the GGUF file at ``path``; tensors are read when they are asked for.

    Args:
        path: The file, or any part of a split one.
        name: For people; the file's name without its suffix where empty.
        digest: SHA-256 of the file or its parts, for ``Source.digest``.

    Raises:
        CheckpointError: The file cannot be used; the message names the file and what is wrong with it.
    """
    parts = read_parts(path)
    metadata = parts[0].metadata
    try:
        architecture = _architecture(parts)
        tokenizer = gguf_tokenizer(metadata)
    except CheckpointError as error:
        named = str(error).startswith(tuple(str(part.path) for part in parts))
        raise error if named else CheckpointError(f"{path}: {error}") from None
    if tokenizer.vocab_size > architecture.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {architecture.vocab_size}"
        )
    return Checkpoint(
        source=Source(kind="gguf", name=name or model_name(path), path=str(path.resolve()), digest=digest),
        architecture=architecture,
        tensors=_tensors(parts, architecture, path),
        tokenizer_json=tokenizer.tokenizer_json,
        chat_template=tokenizer.chat_template,
        eos_token_ids=tokenizer.eos_token_ids,
        bos_token_id=tokenizer.bos_token_id,
        special_tokens=tokenizer.special_tokens,
    )


def _architecture(parts: list[GgufFile]) -> Architecture:
    metadata, shapes = dict(parts[0].metadata), {}
    for name, tensor in _stored(parts).items():
        shapes[name] = tensor.shape
        if name in FACTOR_TENSORS:
            metadata[name] = tensor.float32().reshape(-1).tolist()
    return architecture_from_gguf(metadata, shapes)


def _tensors(parts: list[GgufFile], architecture: Architecture, path: Path) -> dict[str, GgufTensor]:
    layout = gguf_family(parts[0].metadata).gguf
    found = {name: tensor for name, tensor in _stored(parts).items() if name not in FACTOR_TENSORS}
    tensors = select_tensors(architecture, found, path, layout)
    if layout.interleaved:
        _restore_row_order(tensors, architecture, path)
    return tensors


def _stored(parts: list[GgufFile]) -> dict[str, GgufTensor]:
    return {
        name: GgufTensor(name, info.shape, info.encoding.name, file, info)
        for file in parts
        for name, info in file.tensors.items()
    }


def _restore_row_order(tensors: dict[str, GgufTensor], architecture: Architecture, path: Path) -> None:
    if architecture.rotary_dim != architecture.head_dim:
        raise CheckpointError(f"{path}: rotation of a part of each head is not supported for interleaved Q and K rows")
    orders = {
        ".self_attn.q_proj.": half_split_rows(architecture.num_heads, architecture.head_dim),
        ".self_attn.k_proj.": half_split_rows(architecture.num_kv_heads, architecture.head_dim),
    }
    for name, tensor in tensors.items():
        for part, order in orders.items():
            if part in name:
                tensor.row_order = order
