"""A byte-level tokenizer small enough to be made on the spot."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

EOS = "<eos>"
EOS_ID = 0
VOCAB_SIZE = 262


def toy_tokenizer() -> Tokenizer:
    """EOS is id 0, byte ``b`` is ``byte_id(b)``, and a few merges make up "hello" and " stop"."""
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("o", "p")]
    alphabet = [_symbol(byte) for byte in range(256)]
    vocab = {symbol: i + 1 for i, symbol in enumerate(alphabet)}
    for left, right in merges:
        vocab[left + right] = len(vocab) + 1
    vocab[EOS] = EOS_ID
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(EOS, special=True)])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    return tokenizer


def byte_id(byte: int) -> int:
    """The id of the token that is one byte."""
    return byte + 1


def write_toy_bundle(directory: Path, generation_config: str | None = None) -> Path:
    """The part of a bundle that the HTTP side reads."""
    directory.mkdir(parents=True, exist_ok=True)
    toy_tokenizer().save(str(directory / "tokenizer.json"))
    if generation_config is not None:
        (directory / "generation_config.json").write_text(generation_config)
    return directory


def _symbol(byte: int) -> str:
    """GPT-2's printable stand-in for a byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    return chr(256 + sorted(set(range(256)) - set(printable)).index(byte))
