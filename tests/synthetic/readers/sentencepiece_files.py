"""Trains small SentencePiece models, and writes InternLM2's tokenizer directories around them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import sentencepiece
from huggingface_files import write_json

CORPUS = (
    """
The quick brown fox jumps over the lazy dog, and then the dog sleeps all day long in the warm sun.
A tokenizer splits a text into pieces; the pieces that are seen most often together are joined first.
In 1984 there were 12345 reasons to count from 1 to 10, and 67890 reasons not to do so at all.
def main(args):  # four    spaces and\ttabs stay as they are
Grüße aus München; naïve café, déjà vu. Привет, мир! 你好,世界。こんにちは世界。
"""
    * 3
)
PIECES = 420


def train(folder: Path, *, kind: str = "bpe", dummy_prefix: bool = False, pieces: int = PIECES) -> bytes:
    """A model as InternLM2's: byte fallback, text left as it is, some pieces kept for later use."""
    text = folder / "corpus.txt"
    text.write_text(CORPUS)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_writer=written,
        vocab_size=pieces,
        model_type=kind,
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        add_dummy_prefix=dummy_prefix,
        user_defined_symbols=["[UNUSED_TOKEN_1]", "[UNUSED_TOKEN_2]"],
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def write_internlm2(folder: Path, model: bytes, **changes: Any) -> Path:
    """The tokenizer's files, the two spare pieces made ends of turns."""
    folder.mkdir(parents=True, exist_ok=True)
    spare = sentencepiece.SentencePieceProcessor(model_proto=model)
    first = spare.piece_to_id("[UNUSED_TOKEN_1]")
    texts = {0: "<unk>", 1: "<s>", 2: "</s>", first: "<|im_start|>", first + 1: "<|im_end|>"}
    settings: dict[str, Any] = {
        "tokenizer_class": "InternLM2Tokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "added_tokens_decoder": {str(index): {"content": text, "special": True} for index, text in texts.items()},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": "{{ bos_token }}{{ messages }}",
    }
    write_json(folder / "tokenizer_config.json", {k: v for k, v in (settings | changes).items() if v is not ...})
    (folder / "tokenizer.model").write_bytes(model)
    return folder
