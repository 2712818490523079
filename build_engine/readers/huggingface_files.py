"""Which files of a Hugging Face directory make up the checkpoint. Standard library only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from build_engine.errors import CheckpointError

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
QUANTISED = ("quantize_config.json", "quant_config.json")
"""Files that older AWQ and GPTQ tools leave instead of an entry in ``config.json``."""

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_MAX_JSON_BYTES = 1 << 26


def checkpoint_files(directory: Path) -> list[Path]:
    """Every file of ``directory`` that a bundle depends on.

    Raises:
        CheckpointError: As ``weight_files``.
    """
    optional = [directory / name for name in (CONFIG, GENERATION_CONFIG, INDEX, *_TOKENIZER_FILES)]
    return [path for path in optional if path.is_file()] + weight_files(directory)


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of ``directory``: one, or the shards that its index names.

    Raises:
        CheckpointError: There are none, a shard is missing, or the weights are pickled.
    """
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    if (directory / INDEX).is_file():
        return _shards(directory)
    pickled = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickled:
        raise CheckpointError(
            f"{directory}: the weights are pickled ({pickled[0]}), and reading pickles can run any code; convert them "
            "to safetensors first"
        )
    raise CheckpointError(f"{directory}: has no weights: neither {SINGLE} nor {INDEX}")


def read_json(path: Path) -> dict[str, Any]:
    """The object in the JSON file at ``path``.

    Raises:
        CheckpointError: The file is missing, too large, or holds something else.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: is larger than {_MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not valid JSON: {error}") from None
    if type(value) is not dict:
        raise CheckpointError(f"{path}: has to hold a JSON object")
    return value


def _refuse_constant(name: str) -> None:
    # NOTE: Python reads NaN and Infinity, which JSON does not have and whoever reads a bundle refuses.
    raise ValueError(f"{name} is not JSON")


def _shards(directory: Path) -> list[Path]:
    index = directory / INDEX
    mapping = read_json(index).get("weight_map")
    if type(mapping) is not dict or not mapping or not all(type(name) is str for name in mapping.values()):
        raise CheckpointError(f"{index}: weight_map has to name the file of every tensor")
    names = sorted(set(mapping.values()))
    for name in names:
        # NOTE: the index is untrusted; a name with folders in it could point anywhere.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index}: {name!r} is not the name of a safetensors file")
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{directory}: {len(missing)} of {len(names)} shards missing: {', '.join(map(repr, missing[:4]))}"
        )
    return [directory / name for name in names]
