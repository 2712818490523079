"""Hugging Face directories as checkpoints."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

from build_engine.checkpoint import Checkpoint
from build_engine.errors import CheckpointError
from build_engine.families import architecture_from_config, config_family
from build_engine.families.fields import Fields
from build_engine.readers.huggingface_files import CONFIG, GENERATION_CONFIG, QUANTISED, read_json, weight_files
from build_engine.readers.inventory import select_tensors
from build_engine.readers.safetensors_file import read_safetensors
from build_engine.tokenizers.files import TokenizerFiles
from build_engine.tokenizers.huggingface import huggingface_tokenizer
from runtime.bundle.architecture import Architecture
from runtime.bundle.manifest import Source


def open_huggingface(directory: Path, *, name: str = "", digest: str = "") -> Checkpoint:
    """Open the Hugging Face directory; tensors are read when they are asked for.

    Args:
        directory: Holds ``config.json``, safetensors and tokenizer files.
        name: For people; the directory's name where empty.
        digest: SHA-256 over the files, for ``Source.digest``.

    Raises:
        CheckpointError: The directory cannot be used; the message names the file and what is wrong with it.
    """
    config = read_json(directory / CONFIG)
    architecture = config_architecture(directory, config)
    found = read_safetensors(weight_files(directory))
    tensors = select_tensors(architecture, found, directory, config_family(config).huggingface)
    generation = directory / GENERATION_CONFIG
    generation_config = read_json(generation) if generation.is_file() else {}
    tokenizer = huggingface_tokenizer(directory, architecture.vocab_size)
    return Checkpoint(
        source=Source(
            kind="huggingface", name=name or directory.resolve().name, path=str(directory.resolve()), digest=digest
        ),
        architecture=architecture,
        tensors=tensors,
        tokenizer_json=tokenizer.tokenizer_json,
        chat_template=tokenizer.chat_template,
        generation_config=generation_config,
        eos_token_ids=_eos_token_ids(directory, config, generation_config, tokenizer, architecture),
        bos_token_id=tokenizer.bos_token_id,
        special_tokens=tokenizer.special_tokens,
    )


def config_architecture(directory: Path, config: dict[str, Any] | None = None) -> Architecture:
    """The architecture in the ``config.json`` of ``directory``, errors naming the file."""
    values = read_json(directory / CONFIG) if config is None else config
    try:
        _refuse_quantised(directory, values)
        return architecture_from_config(values)
    except CheckpointError as error:
        raise CheckpointError(f"{directory / CONFIG}: {error}") from None


def _refuse_quantised(directory: Path, config: dict[str, Any]) -> None:
    """Refuse AWQ, GPTQ, compressed-tensors, FP8, bitsandbytes and whatever else packs weights in its own way."""
    quantised = Fields(config).table("quantization_config") or Fields(config).table("compression_config")
    packed = next((name for name in QUANTISED if (directory / name).is_file()), None)
    if quantised or packed:
        method = Fields(quantised).text("quant_method", packed or "an unknown method")
        raise CheckpointError(
            f"weights quantised by {reprlib.repr(method)} are not read; pass the float checkpoint that they were made "
            "from, or a GGUF file of the model"
        )


def _eos_token_ids(
    directory: Path,
    config: dict[str, Any],
    generation_config: dict[str, Any],
    tokenizer: TokenizerFiles,
    architecture: Architecture,
) -> tuple[int, ...]:
    """``config.json``'s ids; for chat models ``generation_config.json``'s too; else the tokenizer's.

    LightLLM reads ``config.json`` alone. Chat models often keep the id that ends a turn in the other file only, and
    without it every answer would run to its length limit.
    """
    ids = _ids(directory / CONFIG, config)
    if tokenizer.chat_template is not None:
        ids += _ids(directory / GENERATION_CONFIG, generation_config)
    chosen = tuple(dict.fromkeys(ids)) or tokenizer.eos_token_ids
    for token in chosen:
        if not 0 <= token < architecture.vocab_size:
            raise CheckpointError(f"{directory}: eos_token_id {token} is not one of {architecture.vocab_size} tokens")
    return chosen


def _ids(path: Path, values: dict[str, Any]) -> list[int]:
    value = values.get("eos_token_id")
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int for token in listed):
        raise CheckpointError(
            f"{path}: eos_token_id is {reprlib.repr(value)}; it has to be an integer or a list of them"
        )
    return list(listed)
