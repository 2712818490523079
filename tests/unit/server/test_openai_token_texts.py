"""Bytes of single tokens, of byte-level and of SentencePiece-like vocabularies."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models
from toy_tokenizer import EOS_ID, byte_id, toy_tokenizer

from server.openai.token_texts import TokenTexts


def test_every_byte_of_a_byte_level_tokenizer_is_found() -> None:
    texts = TokenTexts(toy_tokenizer())
    assert [texts.data(byte_id(byte)) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert texts.text(byte_id(0xC3)) == "�"
    assert texts.text(EOS_ID) == "<eos>"
    assert texts.data(byte_id(0xC3)) is texts.data(byte_id(0xC3))


def test_sentencepiece_spaces_and_bytes_are_kept() -> None:
    vocabulary = ["<unk>", "a", "▁", "▁the", "th", "<0xC3>", "<0xA9>", "é"]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(vocabulary)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    texts = TokenTexts(tokenizer)
    assert [texts.data(i) for i in range(1, 9)] == [b"a", b" ", b" the", b"th", b"\xc3", b"\xa9", "é".encode(), b"<s>"]
