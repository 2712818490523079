"""How the load client reads answers, however the network cuts them."""

from __future__ import annotations

import asyncio
import json

import pytest

from benchmarks.client import StreamResult, _Events

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(number: int, reason: str | None = None, **more: str) -> bytes:
    token = {"id": number, "text": "data: \n\n", "prompt_tokens": 7}
    body = json.dumps({"token": token, "finished": reason is not None, "finish_reason": reason, **more}).encode()
    frame = b"data:%b\n\n" % body
    return b"%x\r\n%b\r\n" % (len(frame), frame)


END = b"0\r\n\r\n"
WHOLE = HEAD + event(1) + event(2) + event(3, "length") + END


def received(*parts: bytes) -> StreamResult:
    async def run() -> StreamResult:
        result = StreamResult(0.0)
        events = _Events(b"", result, asyncio.get_running_loop().create_future())
        for part in parts:
            events.data_received(part)
        events.connection_lost(None)
        return result

    return asyncio.run(run())


def test_events_are_counted_wherever_the_answer_is_cut() -> None:
    for cut in range(1, len(WHOLE)):
        result = received(WHOLE[:cut], WHOLE[cut:])
        assert (result.status, len(result.token_times), result.prompt_tokens, result.error) == (200, 3, 7, "")


def test_events_are_counted_byte_by_byte() -> None:
    assert len(received(*(WHOLE[i : i + 1] for i in range(len(WHOLE)))).token_times) == 3


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (b"", 0, "no answer"),
        (b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\nthe queue is full\n\n", 503, "the queue is full"),
        (HEAD + event(1), 200, "cut off"),
        (HEAD, 200, "cut off"),
        (HEAD + event(1) + event(2, "error", error="it broke") + END, 200, "error event: it broke"),
        (HEAD + b"3\r\n\xff\n\n\r\n", 200, "cut off"),
    ],
)
def test_what_is_not_whole_says_why(answer: bytes, status: int, error: str) -> None:
    result = received(answer)
    assert (result.status, result.error) == (status, error)
    assert status == 200 or result.token_times == []


def test_an_answer_that_is_not_chunked_is_read_too() -> None:
    frames = b"".join(part.split(b"\r\n")[1] for part in (event(1), event(2, "stop")))
    result = received(b"HTTP/1.0 200 OK\r\n\r\n" + frames)
    assert (len(result.token_times), result.error) == (2, "")
