"""Byte-level BPE (``tokenizer.ggml.model = gpt2``) as a ``tokenizers`` object."""

from __future__ import annotations

import reprlib

from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

from build_engine.errors import CheckpointError
from build_engine.tokenizers.pre_tokenizers import pre_tokenizer
from build_engine.tokenizers.special_tokens import add_special_tokens, set_post_processor
from build_engine.tokenizers.vocabulary import Vocabulary


def byte_level_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """A byte-level BPE tokenizer over ``vocabulary``.

    Raises:
        CheckpointError: The merges do not fit the tokens, or the pre-tokenizer is not known.
    """
    if not vocabulary.merges:
        raise CheckpointError("tokenizer.ggml.merges is missing")
    pre = pre_tokenizer(vocabulary.fields.text("pre", "default"))
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    tokenizer = Tokenizer(BPE(ids, _merges(vocabulary, ids), fuse_unk=False, ignore_merges=pre.ignore_merges))
    normalizer = pre.normalizer()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre.build()
    tokenizer.decoder = decoders.ByteLevel()
    add_special_tokens(tokenizer, vocabulary)
    set_post_processor(tokenizer, vocabulary, add_bos_default=pre.add_bos)
    return tokenizer


def _merges(vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    for merge in vocabulary.merges:
        left, _, right = merge.partition(" ")
        if left not in ids or right not in ids or left + right not in ids:
            raise CheckpointError(
                f"merge {reprlib.repr(merge)} of tokenizer.ggml.merges joins tokens that do not exist"
            )
        merges.append((left, right))
    return merges
