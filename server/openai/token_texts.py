"""What single tokens stand for: their bytes, and the text of those."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runtime.detokenizer import REPLACEMENT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>\Z")
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_REST = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + place): byte for place, byte in enumerate(_REST)}
"""The stand-ins of GPT-2's byte-level tokenizers."""


class TokenTexts:
    """Looks tokens up one by one, and remembers them.

    A token is decoded behind another one, so that a space at its beginning is there. What is no whole text by itself
    is read from the vocabulary: byte-level tokens as GPT-2 writes them, and SentencePiece's ``<0x0A>``.

    Args:
        tokenizer: The model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bytes] = {}
        anchors = tokenizer.encode("a", add_special_tokens=False).ids
        self._anchor: list[int] = anchors[-1:]
        self._anchor_text = self._decode([])

    def data(self, token_id: int) -> bytes:
        """The token's bytes, special tokens' names among them."""
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._look_up(token_id)
        return known

    def text(self, token_id: int) -> str:
        """The token's text; what is no text in it is shown as such."""
        return self.data(token_id).decode("utf-8", "replace")

    def texts(self, ids: list[int]) -> list[str]:
        """The text of each token."""
        return [self.text(token_id) for token_id in ids]

    def _look_up(self, token_id: int) -> bytes:
        text = self._decode([token_id])
        if text.startswith(self._anchor_text) and REPLACEMENT not in text:
            return text[len(self._anchor_text) :].encode()
        symbol: str = self._tokenizer.id_to_token(token_id) or ""
        byte = _BYTE.match(symbol)
        if byte is not None:
            return bytes([int(byte[1], 16)])
        if all(character in _BYTES for character in symbol):
            return bytes(_BYTES[character] for character in symbol)
        return symbol.encode()

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode([*self._anchor, *ids], skip_special_tokens=False)
        return text
