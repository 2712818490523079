"""What a request brings besides its body is there while it is answered, and only then."""

from __future__ import annotations

import asyncio
import math
import re
import time
from typing import Any

import pytest

from server.request_context import ContextMiddleware, RequestContext, current, entered


def _request(*headers: tuple[bytes, bytes], timeout: float | None = None) -> tuple[RequestContext, dict[bytes, bytes]]:
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
        await ContextMiddleware(app, timeout)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]
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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 100 o'clock."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("header", "longest", "deadline"),
    [(None, None, math.inf), (b"2.5", None, 102.5), (None, 7.0, 107.0), (b"2.5", 7.0, 102.5), (b"9", 7.0, 107.0)],
)
def test_a_deadline_counts_from_the_arrival(header: bytes | None, longest: float | None, deadline: float) -> None:
    headers = [] if header is None else [(b"x-request-timeout", header)]
    assert _request(*headers, timeout=longest)[0].deadline == deadline


@pytest.mark.parametrize(("value", "priority"), [(b"8", 8), (b"-8", -8), (b"+1", 1), (b"0", 0)])
def test_a_priority_is_a_small_number(value: bytes, priority: int) -> None:
    assert _request((b"X-Request-Priority", value))[0].priority == priority


@pytest.mark.parametrize("name", [b"X-Request-Priority", b"X-Request-Timeout"])
@pytest.mark.parametrize("value", [b"", b"x", b"1 2", b"\xb2", b"99999999", b"0x1", b"1_0", b"-9"])
def test_a_bad_header_is_named(name: bytes, value: bytes) -> None:
    context, _ = _request((name, value), (b"X-Request-Id", b"7"))
    assert context.problem is not None
    assert (context.problem.param, context.request_id) == (name.decode(), "7")
