"""InternLM2's tokenizer: a SentencePiece BPE model and a table of added tokens, as a complete ``tokenizer.json``.

The directories have it as code of their own (``InternLM2Tokenizer``), which is never run. What is built here follows
the published ``InternLM2Converter``.
"""

from __future__ import annotations

import re
import reprlib
from pathlib import Path
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.fields import Fields
from build_engine.readers.huggingface_files import read_json
from build_engine.tokenizers.files import TokenizerFiles
from build_engine.tokenizers.sentencepiece import sentencepiece_tokenizer
from build_engine.tokenizers.sentencepiece_model import SentencePieceModel, read_sentencepiece
from build_engine.tokenizers.vocabulary import TokenType, Vocabulary

_CONFIG, _MODEL = "tokenizer_config.json", "tokenizer.model"
_CLASSES = ("InternLM2Tokenizer", "InternLM2TokenizerFast")
_ID = re.compile(r"[0-9]{1,9}")
_FIRST = ("<unk>", "<s>", "</s>")
_NAMED = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
# NOTE: the converter makes plain BPE tokens of all pieces that are not added tokens.
_PLAIN = {
    TokenType.NORMAL: TokenType.NORMAL,
    TokenType.USER_DEFINED: TokenType.NORMAL,
    TokenType.BYTE: TokenType.BYTE,
}


def is_internlm2(directory: Path) -> bool:
    """Whether the tokenizer of ``directory`` is InternLM2's, for which transformers would run code."""
    config = directory / _CONFIG
    return config.is_file() and read_json(config).get("tokenizer_class") in _CLASSES


def internlm2_tokenizer(directory: Path, vocab_size: int) -> TokenizerFiles:
    """Convert the tokenizer of ``directory``.

    Args:
        directory: Holds ``tokenizer.model`` and ``tokenizer_config.json``.
        vocab_size: Embeddings of the model; added tokens beyond them are left out.

    Raises:
        CheckpointError: A file cannot be used; the message names it.
    """
    settings = read_json(directory / _CONFIG)
    model = read_sentencepiece(directory / _MODEL)
    if len(model.pieces) > vocab_size:
        count = len(model.pieces)
        raise CheckpointError(
            f"{directory / _MODEL}: the tokenizer has {count} tokens, the model only {vocab_size} embeddings"
        )
    try:
        vocabulary = _vocabulary(model, settings, vocab_size)
        tokenizer = sentencepiece_tokenizer(vocabulary)
    except CheckpointError as error:
        raise CheckpointError(f"{directory / _CONFIG}: {error}") from None
    return TokenizerFiles(
        tokenizer_json=tokenizer.to_str().encode(),
        vocab_size=vocab_size,
        chat_template=_chat_template(directory, settings),
        eos_token_ids=vocabulary.eos_ids,
        bos_token_id=vocabulary.bos_id,
        special_tokens=vocabulary.special_tokens,
    )


def _vocabulary(model: SentencePieceModel, settings: dict[str, Any], vocab_size: int) -> Vocabulary:
    tokens = [*_FIRST, *model.pieces[len(_FIRST) :]]
    types: list[int] = [_PLAIN.get(TokenType(kind), TokenType.UNUSED) for kind in model.types]
    types[: len(_FIRST)] = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    scores = [0.0] * len(_FIRST) + model.scores[len(_FIRST) :]
    for index, text in sorted(_added_tokens(settings).items()):
        if index >= vocab_size:
            break
        if index > len(tokens):
            raise CheckpointError(f"added token {index} comes after {len(tokens)} tokens: the ids between are missing")
        # NOTE: slices replace the piece of that id, and append where there is none.
        tokens[index : index + 1], scores[index : index + 1] = [text], scores[index : index + 1] or [0.0]
        types[index : index + 1] = [TokenType.CONTROL if index else TokenType.UNKNOWN]
    if len(set(tokens)) != len(tokens):
        raise CheckpointError(f"{len(tokens) - len(set(tokens))} tokens are in the vocabulary twice")
    special = _special_ids(settings, tokens)
    options = {
        "add_space_prefix": model.dummy_prefix,
        "add_bos_token": settings.get("add_bos_token", True),
        "add_eos_token": settings.get("add_eos_token", False),
    }
    return Vocabulary(
        tokens=tokens,
        types=types,
        scores=scores,
        merges=[],
        bos_id=special.get("bos_token", -1),
        unknown_id=0,
        eos_ids=(special["eos_token"],) if "eos_token" in special else (),
        fields=Fields(options),
        special_ids=special,
    )


def _added_tokens(settings: dict[str, Any]) -> dict[int, str]:
    added: dict[int, str] = {}
    for key, entry in Fields(settings).table("added_tokens_decoder").items():
        text = entry.get("content") if type(entry) is dict else None
        if not _ID.fullmatch(key) or not isinstance(text, str) or not text:
            raise CheckpointError(f"added_tokens_decoder has the unusable entry {reprlib.repr(key)}")
        added[int(key)] = text
    return added


def _special_ids(settings: dict[str, Any], tokens: list[str]) -> dict[str, int]:
    ids = {text: index for index, text in enumerate(tokens)}
    found: dict[str, int] = {}
    for name, default in _NAMED.items():
        value = settings.get(name, default)
        text = value.get("content") if type(value) is dict else value
        if text is not None and (not isinstance(text, str) or text not in ids):
            raise CheckpointError(f"{name} {reprlib.repr(text)} is not one of the {len(tokens)} tokens")
        if text is not None:
            found[name] = ids[text]
    return found


def _chat_template(directory: Path, settings: dict[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text("utf-8") or None
        except (OSError, UnicodeDecodeError):
            raise CheckpointError(f"{file}: cannot be read") from None
    try:
        return Fields(settings).text("chat_template") or None
    except CheckpointError as error:
        raise CheckpointError(f"{directory / _CONFIG}: {error}") from None
