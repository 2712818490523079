"""The bundle's tokenizer as the HTTP side uses it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENCODE_THREADS = 2


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

    @classmethod
    def load(cls, bundle: Path) -> TextCodec:
        """Read ``tokenizer.json`` of a bundle.

        Raises:
            ValueError: The file is missing or is no tokenizer; the message names it.
        """
        from tokenizers import Tokenizer

        path = bundle / "tokenizer.json"
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"{path} cannot be read as a tokenizer: {error}") from error

    async def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of ``text``."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._encode, text, add_special_tokens)

    def close(self) -> None:
        """Stop the threads once they are idle."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        # NOTE: ``encode`` holds the GIL for the whole text, which would stall every stream of this worker;
        # the batch call releases it.
        (encoding,) = self.tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return list(encoding.ids)
