"""SentencePiece's BPE with byte fallback as a ``tokenizers`` object.

Scores become merges as in transformers' ``generate_merges``; normaliser and decoder are those of Llama's
``tokenizer.json``.
"""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from build_engine.errors import CheckpointError
from build_engine.tokenizers.special_tokens import add_special_tokens, set_post_processor
from build_engine.tokenizers.vocabulary import TokenType, Vocabulary

_SPACE = "\u2581"


def sentencepiece_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """A BPE tokenizer with byte fallback over ``vocabulary``.

    Raises:
        CheckpointError: There are no scores, or some of the 256 byte tokens are missing.
    """
    if not vocabulary.scores:
        raise CheckpointError("tokenizer.ggml.scores is missing")
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    if any(f"<0x{byte:02X}>" not in ids for byte in range(256)):
        raise CheckpointError("the vocabulary lacks some of the byte tokens <0x00> to <0xFF>")
    unknown = vocabulary.tokens[vocabulary.unknown_id] if vocabulary.unknown_id >= 0 else None
    model = BPE(ids, merges_from_scores(vocabulary, ids), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    prefix = vocabulary.fields.flag("add_space_prefix", default=True)
    # NOTE: as in llama.cpp, every stretch of text between special tokens gets its own leading space.
    steps: list[normalizers.Normalizer] = [normalizers.Prepend(_SPACE)] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(content=" ", left=1)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    add_special_tokens(tokenizer, vocabulary)
    set_post_processor(tokenizer, vocabulary, add_bos_default=True)
    return tokenizer


def merges_from_scores(vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, best score first.

    SentencePiece joins the adjacent pair whose result scores best; ranking all pairs by their result's score makes a
    merge table do the same.
    """
    joinable = {TokenType.NORMAL, TokenType.USER_DEFINED}
    found: list[tuple[float, int, int, str, str]] = []
    for token, kind, score in zip(vocabulary.tokens, vocabulary.types, vocabulary.scores, strict=True):
        if kind not in joinable:
            continue
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        pairs = [(left, right) for left, right in splits if left in ids and right in ids]
        pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found.extend((score, len(left), len(right), left, right) for left, right in pairs)
    found.sort(key=lambda entry: entry[:3], reverse=True)
    return [(left, right) for *_, left, right in found]
