"""The bundle's tokenizer as grammars see it: the bytes of each token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llguidance import LLTokenizer

from runtime.constraints.specification import ConstraintError

Vocabulary = LLTokenizer


def load_vocabulary(path: Path, vocab_size: int, eos_token_ids: Sequence[int]) -> Vocabulary:
    """Read a ``tokenizer.json``; takes a quarter of a second for 49152 tokens, and holds the interpreter's lock.

    Args:
        path: The file.
        vocab_size: Logits of the model; what the tokenizer has less is never drawn.
        eos_token_ids: Ids that end an output; at least one.

    Raises:
        ConstraintError: It cannot be used; the message says why.
    """
    try:
        return LLTokenizer(path.read_text(encoding="utf-8"), n_vocab=vocab_size, eos_token=list(eos_token_ids))
    except (OSError, ValueError) as error:
        raise ConstraintError(f"{path}: {error}") from None
