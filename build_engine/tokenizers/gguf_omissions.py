"""What GGUF files leave out of their tokenizers, found the way llama.cpp finds it (``llama-vocab.cpp``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ENDS_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")
_KEEP_SPACE = ("<unk>", "<s>", "<|endoftext|>")


def end_of_turn(metadata: Mapping[str, Any], tokens: Sequence[str]) -> int:
    """The token that ends a turn of a chat model whose file does not name one, by its text; -1 where there is none.

    Without it, an answer would run on to its length limit.
    """
    if not metadata.get("tokenizer.chat_template") or "tokenizer.ggml.eot_token_id" in metadata:
        return -1
    ids = {token: index for index, token in enumerate(tokens)}
    return next((ids[text] for text in _ENDS_OF_TURN if text in ids), -1)


def swallowing(metadata: Mapping[str, Any], tokens: Sequence[str], special: Sequence[int]) -> tuple[int, ...]:
    """Which of the ``special`` tokens take the white space after them along: Phi-3's, but for a few.

    llama.cpp goes by the model's name here, which can be any; the architecture and the kind of tokenizer say the same.
    """
    if (metadata.get("general.architecture"), metadata.get("tokenizer.ggml.model")) != ("phi3", "llama"):
        return ()
    return tuple(index for index in special if tokens[index] not in _KEEP_SPACE)
