"""The merging slot between engine and answer."""

from __future__ import annotations

import asyncio
import time

import pytest

from runtime.messages import TokenOutput
from runtime.request import FinishReason
from server.errors import ClientGoneError, TimeIsUpError, UnavailableError
from server.request_stream import LATE_SECONDS, RequestStream


class Aborts(list[tuple[int, int]]):
    def __call__(self, request_id: int, sample: int) -> None:
        self.append((request_id, sample))


def output(token: int, sample: int = 0, finish: FinishReason = FinishReason.NONE) -> TokenOutput:
    return TokenOutput(7, sample, token, 0.0, finish)


def test_outputs_merge_until_they_are_taken() -> None:
    stream = RequestStream(7, 1, Aborts())
    stream.put(output(1))
    stream.put(output(2, finish=FinishReason.LENGTH))
    assert [o.token_id for o in asyncio.run(stream.take())] == [1, 2]
    assert asyncio.run(stream.take()) == []


def test_a_reader_is_woken_by_the_next_output() -> None:
    async def test() -> None:
        stream = RequestStream(7, 1, Aborts())
        reader = asyncio.create_task(stream.take())
        await asyncio.sleep(0)
        stream.put(output(3))
        assert [o.token_id for o in await reader] == [3]

    asyncio.run(test())


def test_a_failure_comes_after_what_was_there() -> None:
    async def test() -> None:
        stream = RequestStream(7, 1, Aborts())
        stream.put(output(1))
        stream.fail(UnavailableError("gone"))
        assert len(await stream.take()) == 1
        with pytest.raises(UnavailableError, match="gone"):
            await stream.take()

    asyncio.run(test())


def test_cancelling_frees_the_request_once_and_wakes_the_reader() -> None:
    async def test() -> None:
        aborts = Aborts()
        stream = RequestStream(7, 2, aborts)
        reader = asyncio.create_task(stream.take())
        await asyncio.sleep(0)
        stream.cancel(ClientGoneError())
        stream.cancel(ClientGoneError())
        with pytest.raises(ClientGoneError):
            await reader
        assert aborts == [(7, -1)]

    asyncio.run(test())


def test_an_engine_that_says_nothing_keeps_nobody_beyond_the_deadline() -> None:
    async def test() -> None:
        aborts = Aborts()
        stream = RequestStream(7, 1, aborts, deadline=time.monotonic() - LATE_SECONDS)
        stream.put(output(1))
        assert len(await stream.take()) == 1
        with pytest.raises(TimeIsUpError):
            await stream.take()
        assert aborts == [(7, -1)]

    asyncio.run(test())


def test_nothing_comes_for_a_cancelled_sample_and_others_go_on() -> None:
    async def test() -> None:
        aborts = Aborts()
        stream = RequestStream(7, 2, aborts)
        stream.cancel_sample(0)
        stream.put(output(1, sample=0))
        stream.put(output(2, sample=1, finish=FinishReason.STOP))
        assert [o.token_id for o in await stream.take()] == [2]
        assert stream.finished
        assert aborts == [(7, 0)]

    asyncio.run(test())


def test_after_the_end_nothing_is_aborted() -> None:
    aborts = Aborts()
    stream = RequestStream(7, 1, aborts)
    stream.put(output(1, finish=FinishReason.STOP))
    stream.cancel(ClientGoneError())
    stream.cancel_sample(0)
    assert aborts == []
