"""The tokenizer of a GGUF file as a complete ``tokenizer.json``."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import Tokenizer

from build_engine.errors import CheckpointError
from build_engine.families.fields import Fields
from build_engine.tokenizers.byte_level import byte_level_tokenizer
from build_engine.tokenizers.files import TokenizerFiles
from build_engine.tokenizers.gguf_vocabulary import read_vocabulary
from build_engine.tokenizers.sentencepiece import sentencepiece_tokenizer
from build_engine.tokenizers.vocabulary import Vocabulary

_MODELS: dict[str, Callable[[Vocabulary], Tokenizer]] = {
    "gpt2": byte_level_tokenizer,
    "llama": sentencepiece_tokenizer,
}


def gguf_tokenizer(metadata: Mapping[str, Any]) -> TokenizerFiles:
    """Convert the tokenizer section of GGUF ``metadata``.

    Raises:
        CheckpointError: It is missing, contradicts itself, or is of a kind that is not supported.
    """
    model = Fields(metadata).text("tokenizer.ggml.model")
    if model not in _MODELS:
        raise CheckpointError(f"tokenizer.ggml.model is {reprlib.repr(model)}; supported are {', '.join(_MODELS)}")
    vocabulary = read_vocabulary(metadata)
    tokenizer = _MODELS[model](vocabulary)
    template = metadata.get("tokenizer.chat_template")
    return TokenizerFiles(
        tokenizer_json=tokenizer.to_str().encode(),
        vocab_size=len(vocabulary.tokens),
        chat_template=template if isinstance(template, str) and template else None,
        eos_token_ids=vocabulary.eos_ids,
        bos_token_id=vocabulary.bos_id,
        special_tokens=vocabulary.special_tokens,
    )
