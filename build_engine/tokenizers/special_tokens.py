"""Special tokens of vocabularies: added tokens, and what is put around a text."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from build_engine.errors import CheckpointError
from build_engine.tokenizers.vocabulary import TokenType, Vocabulary


def add_special_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """Make control and user-defined tokens matchable in text, under the ids they have.

    Control tokens (and the unknown token) are special: decoding can leave them out. User-defined ones are not.
    """
    special = vocabulary.ids_of(TokenType.CONTROL, TokenType.UNKNOWN)
    visible = vocabulary.ids_of(TokenType.USER_DEFINED)
    tokenizer.add_special_tokens([_added(vocabulary, index, special=True) for index in special])
    tokenizer.add_tokens([_added(vocabulary, index, special=False) for index in visible])
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size != len(vocabulary.tokens):
        raise CheckpointError(f"the tokenizer came out with {size} tokens instead of {len(vocabulary.tokens)}")


def set_post_processor(tokenizer: Tokenizer, vocabulary: Vocabulary, *, add_bos_default: bool) -> None:
    """Put the beginning- and end-of-sequence tokens around a text, where the file asks for them."""
    eos_id = vocabulary.eos_ids[0] if vocabulary.eos_ids else -1
    bos = _wanted(vocabulary, "add_bos_token", add_bos_default, vocabulary.bos_id)
    eos = _wanted(vocabulary, "add_eos_token", False, eos_id)
    if bos or eos:
        template = [*(token for token, _ in bos), "$A", *(token for token, _ in eos)]
        try:
            tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=bos + eos)
        except ValueError as error:
            raise CheckpointError(f"the special tokens {bos + eos} cannot be put around a text: {error}") from None


def _wanted(vocabulary: Vocabulary, key: str, default: bool, token_id: int) -> list[tuple[str, int]]:
    """The token to put there, as a list of at most one."""
    if not vocabulary.fields.flag(key, default):
        return []
    if token_id < 0:
        raise CheckpointError(f"{key} is set, but the file names no such token")
    return [(vocabulary.tokens[token_id], token_id)]


def _added(vocabulary: Vocabulary, index: int, *, special: bool) -> AddedToken:
    text, strip = vocabulary.tokens[index], index in vocabulary.swallowing
    return AddedToken(text, special=special, normalized=False, rstrip=strip)
