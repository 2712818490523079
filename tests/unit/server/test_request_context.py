"""What a request brings besides its body is there while it is answered, and only then."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from server.request_context import ContextMiddleware, RequestContext, current, entered


def _request(*headers: tuple[bytes, bytes]) -> tuple[RequestContext, dict[bytes, bytes]]:
    """The context that the application sees, and the headers that the client does."""
    seen: list[RequestContext] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-other", b"1")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer() -> None:
        await ContextMiddleware(app)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]
        assert current() == RequestContext()

    asyncio.run(answer())
    return seen[0], dict(sent[0]["headers"])


def test_a_request_keeps_the_name_that_its_client_gave_it() -> None:
    context, headers = _request((b"X-Request-ID", b"b6:ticket_7.a"))
    assert context == RequestContext(request_id="b6:ticket_7.a")
    assert headers == {b"x-other": b"1", b"x-request-id": b"b6:ticket_7.a"}


@pytest.mark.parametrize("name", [b"", b"a b", b"a\r\nb", b"a\xff", b"a" * 129])
def test_a_request_without_a_harmless_name_gets_one(name: bytes) -> None:
    (first, headers), (second, _) = _request((b"x-request-id", name)), _request()
    assert re.fullmatch("[0-9a-f]{32}", first.request_id)
    assert headers[b"x-request-id"] == first.request_id.encode()
    assert first.request_id != second.request_id


def test_another_context_can_be_entered_for_a_while() -> None:
    with entered(RequestContext(tenant="alice")):
        assert current().tenant == "alice"
    assert current() == RequestContext()
