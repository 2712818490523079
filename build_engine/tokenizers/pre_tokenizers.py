"""Byte-level pre-tokenizers by the name that GGUF files give them (``tokenizer.ggml.pre``).

The regular expressions are those of the models' own ``tokenizer.json``.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Regex, normalizers, pre_tokenizers

from build_engine.errors import CheckpointError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How text is split before byte-level merges.

    Attributes:
        build: Makes the ``tokenizers`` object.
        nfc: Text is brought to Unicode normal form C first.
        ignore_merges: A piece that is a token is taken whole, whatever the merges say.
        add_bos: What the absence of ``add_bos_token`` means.
    """

    build: Callable[[], pre_tokenizers.PreTokenizer]
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False

    def normalizer(self) -> normalizers.Normalizer | None:
        """The normaliser that goes before it."""
        return normalizers.NFC() if self.nfc else None


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits_then_gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _split(pattern: str) -> Callable[[], pre_tokenizers.PreTokenizer]:
    def build() -> pre_tokenizers.PreTokenizer:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    return build


_GPT2 = PreTokenizer(_gpt2)
# NOTE: losing the digit split turns 1234567 into fewer tokens than the model was trained on.
_SMOLLM = PreTokenizer(_digits_then_gpt2)
_LLAMA_BPE = PreTokenizer(_split(_LLAMA3), ignore_merges=True, add_bos=True)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "smollm": _SMOLLM,
    "llama-bpe": _LLAMA_BPE,
    "llama3": _LLAMA_BPE,
    "dbrx": PreTokenizer(_split(_LLAMA3)),
    "gpt-4o": PreTokenizer(_split(_O200K)),
    "qwen2": PreTokenizer(_split(_QWEN2), nfc=True),
}


def pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer called ``name``.

    Raises:
        CheckpointError: It is not known; guessing would give other tokens than the model was trained on.
    """
    if name not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise CheckpointError(f"tokenizer.ggml.pre is {reprlib.repr(name)}; supported are {known}")
    return PRE_TOKENIZERS[name]
