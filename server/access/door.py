"""Lets in who has a key, before anything of a request but its head has been read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from server.access.failed_logins import FailedLogins
from server.access.key_ring import KeyRing
from server.access.public_paths import METRICS
from server.access.tenant import Tenant
from server.connection import AsgiApp, Receive, Send
from server.refusal import discard, refuse
from server.request_context import RequestContext, current, entered

_MISSING = "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"
_WRONG = "the API key is not valid"
_CHALLENGE = [(b"www-authenticate", b'Bearer realm="peregrine"')]


class Door:
    """ASGI layer: everything but the public paths wants a key, and is then done in its tenant's name.

    Args:
        app: What lies behind it.
        ring: All keys.
        public: Paths that need none.
        shared_prefix_cache: Tenants find each other's prompts in the prefix cache.
    """

    def __init__(
        self, app: AsgiApp, ring: KeyRing, public: frozenset[str], *, shared_prefix_cache: bool = False
    ) -> None:
        self._app = app
        self._ring = ring
        self._public = public
        self._shared = shared_prefix_cache
        self._failed = FailedLogins()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        path = scope.get("path", "")
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if path in self._public:
            await self._app(scope, _bodiless(receive), send)
            return
        key = presented(scope["headers"])
        tenant = self._ring.find(key) if key else None
        if tenant is None:
            await self._turn_away(scope, receive, send, 401, _WRONG if key else _MISSING)
        elif path == METRICS and not tenant.metrics:
            await self._turn_away(scope, receive, send, 403, f"the key of {tenant.name} may not read {METRICS}")
        else:
            with entered(self._named(tenant)):
                await self._app(scope, receive, send)

    def _named(self, tenant: Tenant) -> RequestContext:
        context = current()
        priority = min(context.priority, tenant.max_priority)
        # NOTE: clients cannot choose it, so a salt that can be guessed separates them as well as another.
        salt = "" if self._shared else tenant.name
        return replace(context, tenant=tenant.name, salt=salt, priority=priority)

    async def _turn_away(self, scope: dict[str, Any], receive: Receive, send: Send, status: int, message: str) -> None:
        peer = (scope.get("client") or ("unknown",))[0]
        self._failed.note(peer, scope["path"], message)
        headers, code = (_CHALLENGE, "invalid_api_key") if status == 401 else ([], "insufficient_permissions")
        await refuse(scope, send, status, message, code=code, headers=headers)
        await discard(receive)


def _bodiless(receive: Receive) -> Receive:
    """``receive`` without the body, which no public path has a use for."""
    empty: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def leaving() -> Mapping[str, Any]:
        if empty:
            return empty.pop()
        while (message := await receive())["type"] == "http.request":
            pass
        return message

    return leaving


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key that a request brings; empty without one."""
    named = {name.lower(): value for name, value in headers}
    scheme, _, key = named.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else named.get(b"x-api-key", b"").strip()
