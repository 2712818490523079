"""What a request brings besides its body is there while it is answered, and only then."""

from __future__ import annotations

import asyncio
from typing import Any

from server.request_context import ContextMiddleware, RequestContext, current


def _request(*headers: tuple[bytes, bytes]) -> RequestContext:
    seen: list[RequestContext] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current())

    async def answer() -> None:
        await ContextMiddleware(app)({"type": "http", "headers": headers}, None, None)  # type: ignore[arg-type]
        assert current() == RequestContext()

    asyncio.run(answer())
    return seen[0]


def test_headers_become_the_context_of_one_request() -> None:
    assert _request((b"X-Request-ID", b"a\xff")).request_id == "a\xff"


def test_a_request_without_them_has_an_empty_one() -> None:
    assert _request() == RequestContext()
