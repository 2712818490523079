"""The tokenizer section of GGUF metadata, checked."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.fields import Fields

_PREFIX = "tokenizer.ggml."


class TokenType(IntEnum):
    """``tokenizer.ggml.token_type`` (llama.cpp's ``llama_token_type``)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """Tokens and special ids of a GGUF file.

    Attributes:
        types: One per token.
        scores: One per token; empty for byte-level vocabularies.
        merges: ``"left right"``, best first; empty for SentencePiece vocabularies.
        eos_ids: End of sequence, then end of turn where it differs.
        bos_id: -1 where there is none; likewise ``unknown_id``.
        fields: The section's other keys, without their prefix.
    """

    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]
    bos_id: int
    unknown_id: int
    eos_ids: tuple[int, ...]
    fields: Fields

    def ids_of(self, *types: TokenType) -> list[int]:
        """Ids of the tokens of ``types``, ascending."""
        return [index for index, kind in enumerate(self.types) if kind in types]


def read_vocabulary(metadata: Mapping[str, Any]) -> GgufVocabulary:
    """The tokenizer section of ``metadata``.

    Raises:
        CheckpointError: It is missing or contradicts itself.
    """
    tokens = _list(metadata, "tokens", str)
    if not tokens:
        raise CheckpointError(f"{_PREFIX}tokens is missing: the file has no tokenizer")
    if len(set(tokens)) != len(tokens):
        raise CheckpointError(f"{_PREFIX}tokens holds {len(tokens) - len(set(tokens))} tokens twice")
    types = _list(metadata, "token_type", int) or [int(TokenType.NORMAL)] * len(tokens)
    scores = _list(metadata, "scores", float)
    for name, values in (("token_type", types), ("scores", scores)):
        if values and len(values) != len(tokens):
            raise CheckpointError(f"{_PREFIX}{name} has {len(values)} entries for {len(tokens)} tokens")
    eos = [_id(metadata, key, len(tokens)) for key in ("eos_token_id", "eot_token_id")]
    return GgufVocabulary(
        tokens=tokens,
        types=types,
        scores=scores,
        merges=_list(metadata, "merges", str),
        bos_id=_id(metadata, "bos_token_id", len(tokens)),
        unknown_id=_id(metadata, "unknown_token_id", len(tokens)),
        eos_ids=tuple(dict.fromkeys(token for token in eos if token >= 0)),
        fields=Fields(metadata, _PREFIX),
    )


def _list(metadata: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    values = metadata.get(_PREFIX + name, [])
    if type(values) is not list or (values and type(values[0]) is not kind):
        raise CheckpointError(f"{_PREFIX}{name} has to be a list of {kind.__name__}")
    return values


def _id(metadata: Mapping[str, Any], name: str, count: int) -> int:
    value = metadata.get(_PREFIX + name)
    if value is None:
        return -1
    if type(value) is not int or not 0 <= value < count:
        raise CheckpointError(f"{_PREFIX}{name} is {reprlib.repr(value)}, which is not one of the {count} tokens")
    return value
