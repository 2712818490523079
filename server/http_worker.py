"""gunicorn's ASGI worker, with the bounds on connections that it lacks."""

from __future__ import annotations

import math
import os
from asyncio import BaseTransport
from http import HTTPStatus
from typing import Any

from gunicorn.asgi import protocol
from gunicorn.workers import gasgi

from server.config import HttpConfig, read_config
from server.gunicorn_worker import PatientWorker

# NOTE: gunicorn has words for some codes only and calls the others, LightLLM's 417 among them, "Unknown".
protocol._REASON_PHRASES.update({code.value: code.phrase for code in HTTPStatus} | protocol._REASON_PHRASES)  # noqa: SLF001


class Connection(protocol.ASGIProtocol):  # type: ignore[misc]
    """A connection whose first request has to come in time; gunicorn has that for the later ones alone."""

    worker: HttpWorker

    def connection_made(self, transport: BaseTransport) -> None:
        """See the base class."""
        super().connection_made(transport)
        worker = self.worker
        # NOTE: gunicorn cancels this timer as soon as it has the head of a request.
        self._keepalive_handle = worker.loop.call_later(worker.head_seconds, self._keepalive_timeout)
        worker.held.add(self)
        if len(worker.held) > worker.cfg.worker_connections:
            worker.make_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See the base class."""
        self.worker.held.discard(self)
        super().connection_lost(exc)

    @property
    def waits_until(self) -> float:
        """When it will be closed for want of a request; never while one is being answered."""
        return self._keepalive_handle.when() if self._awaiting_request and self._keepalive_handle else math.inf

    def turn_away(self) -> None:
        """Close it before anything was asked."""
        self._send_error_response(503, "too many connections", (("Retry-After", "1"),))
        self._keepalive_timeout()


class HttpWorker(PatientWorker):
    """See the base class.

    Attributes:
        head_seconds: Time for the head of a connection's first request.
        held: Connections that are open.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head_seconds = read_config(HttpConfig, os.environ).head_seconds
        self.held: set[Connection] = set()

    def make_room(self, newcomer: Connection) -> None:
        """Close the connection that has least time left to send a request; without such a one, ``newcomer``."""
        idle = min(self.held, key=lambda connection: connection.waits_until)
        if idle.waits_until < math.inf:
            idle._keepalive_timeout()  # noqa: SLF001 - of this module's own class
        else:
            newcomer.turn_away()


# NOTE: the base class looks its protocol up under this name, and nowhere else.
gasgi.ASGIProtocol = Connection
