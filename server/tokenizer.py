"""The bundle's tokenizer as the HTTP side uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.bundle.bundle import TOKENIZER_FILE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENCODE_THREADS = 2

LONG_TEXT = 2**16
"""Characters from which on a text waits in a queue of its own: a megabyte takes up to seconds."""


class TextCodec:
    """Encodes text off the event loop; decoding single tokens is cheap enough to happen on it.

    Args:
        tokenizer: A ``tokenizers`` tokenizer; padding and truncation stored in it are switched off.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        self.special_ids = frozenset(
            token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special
        )
        self._pool = ThreadPoolExecutor(ENCODE_THREADS, thread_name_prefix="tokenize")
        self._pool_for_long = ThreadPoolExecutor(1, thread_name_prefix="tokenize-long")

    @classmethod
    def load(cls, bundle: Path) -> TextCodec:
        """Read ``tokenizer.json`` of a bundle.

        Raises:
            ValueError: The file is missing or is no tokenizer; the message names it.
        """
        from tokenizers import Tokenizer

        path = bundle / TOKENIZER_FILE
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"{path} cannot be read as a tokenizer: {error}") from error

    async def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of ``text``."""
        pool = self._pool if len(text) < LONG_TEXT else self._pool_for_long
        return await asyncio.get_running_loop().run_in_executor(pool, self._encode, text, add_special_tokens)

    async def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """The text of many ids."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._decode, ids, skip_special_tokens)

    def special_ids_of(self, texts: Iterable[str]) -> frozenset[int]:
        """The ids of those of ``texts`` that are special tokens."""
        return self.special_ids.intersection(self.tokenizer.token_to_id(text) for text in texts)

    def close(self) -> None:
        """Stop the threads once they are idle."""
        for pool in (self._pool, self._pool_for_long):
            pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        # NOTE: ``encode`` holds the GIL for the whole text, which would stall every stream of this worker;
        # the batch call releases it.
        (encoding,) = self.tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return list(encoding.ids)
