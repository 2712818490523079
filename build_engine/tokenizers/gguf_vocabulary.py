"""The tokenizer section of GGUF metadata, checked."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.fields import Fields
from build_engine.tokenizers.gguf_omissions import end_of_turn, swallowing
from build_engine.tokenizers.vocabulary import TokenType, Vocabulary

_PREFIX = "tokenizer.ggml."
_SPECIAL_KEYS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
}


def read_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
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
    special = {name: _id(metadata, key, len(tokens)) for name, key in _SPECIAL_KEYS.items()}
    # NOTE: converters have written ids that do not exist here; nothing but a chat template asks for the token.
    padding = metadata.get(f"{_PREFIX}padding_token_id")
    if type(padding) is int and 0 <= padding < len(tokens):
        special["pad_token"] = padding
    turn = end_of_turn(metadata, tokens)
    if turn >= 0:
        # NOTE: some converters of Gemma left it a plain token.
        types = [*types[:turn], int(TokenType.CONTROL), *types[turn + 1 :]]
    eos = (special["eos_token"], _id(metadata, "eot_token_id", len(tokens)), turn)
    control = [index for index, kind in enumerate(types) if kind in (TokenType.CONTROL, TokenType.UNKNOWN)]
    return Vocabulary(
        tokens=tokens,
        types=types,
        scores=scores,
        merges=_list(metadata, "merges", str),
        bos_id=special["bos_token"],
        unknown_id=special["unk_token"],
        eos_ids=tuple(dict.fromkeys(token for token in eos if token >= 0)),
        fields=Fields(metadata, _PREFIX),
        swallowing=swallowing(metadata, tokens, control),
        special_ids={name: token for name, token in special.items() if token >= 0},
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
