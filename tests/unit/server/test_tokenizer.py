"""Reading and using a bundle's tokenizer."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from toy_tokenizer import EOS_ID, toy_tokenizer, write_toy_bundle

from server.tokenizer import TextCodec


def test_a_tokenizer_is_read_from_a_bundle(tmp_path: Path) -> None:
    codec = TextCodec.load(write_toy_bundle(tmp_path))
    assert codec.special_ids == {EOS_ID}
    assert len(asyncio.run(codec.encode("hello"))) == 1


def test_stored_truncation_is_switched_off() -> None:
    tokenizer = toy_tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    assert len(asyncio.run(TextCodec(tokenizer).encode("abcd"))) == 4


@pytest.mark.parametrize("content", [None, "{}", "nonsense"])
def test_an_unusable_file_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        TextCodec.load(tmp_path)


def test_short_texts_do_not_wait_for_long_ones() -> None:
    async def test() -> list[int]:
        codec, order = TextCodec(toy_tokenizer()), []

        async def encode(size: int) -> None:
            await codec.encode("x" * size)
            order.append(size)

        await asyncio.gather(*(encode(size) for size in (2_000_000, 2_000_001, 2_000_002, 1)))
        codec.close()
        return order

    assert asyncio.run(test())[0] == 1


def test_encoding_lets_other_threads_run() -> None:
    codec = TextCodec(toy_tokenizer())
    ticks, done = [0], threading.Event()

    async def tick() -> None:
        while not done.is_set():
            ticks[0] += 1
            await asyncio.sleep(0)

    async def test() -> None:
        ticking = asyncio.create_task(tick())
        await codec.encode("hello there " * 20_000)
        done.set()
        await ticking

    asyncio.run(test())
    assert ticks[0] > 10
