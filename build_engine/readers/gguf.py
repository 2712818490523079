"""GGUF files as checkpoints."""

from __future__ import annotations

from pathlib import Path

from build_engine.checkpoint import Checkpoint
from build_engine.errors import CheckpointError
from build_engine.families import architecture_from_gguf, gguf_family, gguf_name_map
from build_engine.readers.gguf_file import GgufFile, TensorInfo, read_gguf
from build_engine.readers.gguf_tensors import GgufTensor, half_split_rows
from build_engine.readers.inventory import select_tensors
from build_engine.tokenizers.gguf import gguf_tokenizer
from runtime.bundle.architecture import Architecture
from runtime.bundle.manifest import Source

_ROPE_FACTORS = "rope_freqs.weight"


def open_gguf(path: Path, *, name: str = "", digest: str = "") -> Checkpoint:
    """Open the GGUF file at ``path``; tensors are read when they are asked for.

    Args:
        path: The file.
        name: For people; the file's name without its suffix where empty.
        digest: SHA-256 of the file, for ``Source.digest``.

    Raises:
        CheckpointError: The file cannot be used; the message names the file and what is wrong with it.
    """
    file = read_gguf(path)
    parts = file.metadata.get("split.count", 1)
    if parts != 1:
        raise CheckpointError(f"{path}: is one of {parts} parts; merge them first (llama-gguf-split --merge)")
    try:
        architecture = _architecture(file)
        tokenizer = gguf_tokenizer(file.metadata)
    except CheckpointError as error:
        raise error if str(error).startswith(str(path)) else CheckpointError(f"{path}: {error}") from None
    if tokenizer.vocab_size > architecture.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {architecture.vocab_size}"
        )
    return Checkpoint(
        source=Source(kind="gguf", name=name or path.stem, path=str(path.resolve()), digest=digest),
        architecture=architecture,
        tensors=_tensors(file, architecture),
        tokenizer_json=tokenizer.tokenizer_json,
        chat_template=tokenizer.chat_template,
        eos_token_ids=tokenizer.eos_token_ids,
        bos_token_id=tokenizer.bos_token_id,
    )


def _architecture(file: GgufFile) -> Architecture:
    metadata = file.metadata
    factors = file.tensors.get(_ROPE_FACTORS)
    if factors is not None:
        metadata = {**metadata, _ROPE_FACTORS: _tensor(file, factors).float32().reshape(-1).tolist()}
    return architecture_from_gguf(metadata, {name: info.shape for name, info in file.tensors.items()})


def _tensors(file: GgufFile, architecture: Architecture) -> dict[str, GgufTensor]:
    names = gguf_name_map(architecture)
    found = {
        names.get(name, name): _tensor(file, info, names.get(name, name))
        for name, info in file.tensors.items()
        if name != _ROPE_FACTORS
    }
    tensors = select_tensors(architecture, found, file.path)
    if gguf_family(file.metadata).gguf_interleaved:
        _restore_row_order(tensors, architecture, file.path)
    return tensors


def _tensor(file: GgufFile, info: TensorInfo, name: str = "") -> GgufTensor:
    return GgufTensor(name or info.name, info.shape, info.encoding.name, file, info)


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
