"""Bodies are taken whole, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from server.body import BODIES_AT_ONCE, BodyMiddleware

Messages = list[dict[str, Any]]


def exchange(messages: Messages, *headers: tuple[bytes, bytes]) -> tuple[Messages, Messages]:
    """What the application received and what was sent, when the client sends ``messages``; they are used up."""
    received: Messages = []
    sent: Messages = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        received.extend([await receive(), await receive()])

    async def receive() -> Mapping[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with suppress(ConnectionAbortedError):
        asyncio.run(
            BodyMiddleware(app, 10, 0.05)(
                {"type": "http", "method": "POST", "path": "/generate", "headers": headers}, receive, send
            )
        )
    return received, sent


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": []}
GONE = {"type": "http.disconnect"}


def test_a_body_in_parts_arrives_whole() -> None:
    received, sent = exchange([part(b"ab"), {"type": "http.request", "more_body": True}, part(b"c", False), GONE])
    assert received == [part(b"abc", False), GONE]
    assert sent == []


def test_a_body_may_be_as_large_as_the_limit() -> None:
    received, _ = exchange([part(b"x" * 10, False), GONE], (b"content-length", b"10"))
    assert received[0]["body"] == b"x" * 10


@pytest.mark.parametrize("length", [b"11", b"9" * 40, b"9" * 8000])
def test_what_announces_too_much_is_refused_before_it_is_read(length: bytes) -> None:
    received, sent = exchange([GONE], (b"content-length", length))
    assert (received, sent[0]["status"]) == ([], 413)


def test_a_refused_client_may_send_the_rest_so_that_it_reads_the_answer() -> None:
    messages = [part(b"x" * 11), part(b"x" * 1000), part(b"", False)]
    _, sent = exchange(messages)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert (b"connection", b"close") in sent[0]["headers"]
    assert messages == []


def test_a_body_that_does_not_come_never_reaches_the_application() -> None:
    received, sent = exchange([part(b"ab"), GONE])
    assert (received, sent[0]["status"]) == ([], 408)


@pytest.mark.parametrize("header", [(b"content-encoding", b"GZIP"), (b"transfer-encoding", b"gzip, chunked")])
def test_a_compressed_body_is_taken_and_refused(header: tuple[bytes, bytes]) -> None:
    messages = [part(b"ab"), part(b"c", False)]
    received, sent = exchange(messages, header)
    assert (received, sent[0]["status"], messages) == ([], 415, [])


@pytest.mark.parametrize("header", [(b"content-encoding", b"identity"), (b"transfer-encoding", b"Chunked")])
def test_a_body_as_it_is_is_taken(header: tuple[bytes, bytes]) -> None:
    assert exchange([part(b"ab", False), GONE], header)[0] == [part(b"ab", False), GONE]


def test_a_body_has_a_time_in_which_to_come() -> None:
    sent: Messages = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(BodyMiddleware(receive, 10, 0.01)(SCOPE, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


def test_bodies_that_are_not_whole_have_a_bound_together() -> None:
    async def body() -> list[int]:
        layer, statuses = BodyMiddleware(lambda *_: asyncio.sleep(0), 10), []  # type: ignore[arg-type, return-value]

        async def client() -> None:
            parts = [part(b"x" * 10), part(b"", False)]

            async def receive() -> Any:
                await asyncio.sleep(0)
                return parts.pop(0)

            async def send(message: dict[str, Any]) -> None:
                if "status" in message:
                    statuses.append(message["status"])
                    assert (b"retry-after", b"1") in message["headers"]

            with suppress(ConnectionAbortedError):
                await layer(SCOPE, receive, send)

        await asyncio.gather(*[client() for _ in range(BODIES_AT_ONCE + 3)])
        await client()
        return statuses

    assert asyncio.run(body()) == [503] * 3


def test_time_is_up_even_where_the_cancellation_is_swallowed() -> None:
    sent: Messages = []

    async def receive() -> Mapping[str, Any]:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return part(b"")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError

    asyncio.run(asyncio.wait_for(BodyMiddleware(app, 10, 0.05)(SCOPE, receive, send), 20))
    assert sent[0]["status"] == 408
