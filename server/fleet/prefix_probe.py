"""Asks an engine which prefixes it has cached, on a connection of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import zmq

from runtime.messages import PrefixQuery, PrefixReply, ToWorker
from server.engine_link import EngineLink

MAX_DIGESTS = 1024
"""Of an engine: 8 KB a report, and under 2 ms of the engine's time."""

ANSWER_SECONDS = 5.0


class PrefixProbe:
    """One replica's questions to its engine; has to be made and used on one running loop.

    Args:
        socket_path: Filesystem path of the engine's endpoint.
    """

    def __init__(self, socket_path: str) -> None:
        self._link = EngineLink(socket_path, self._handle, lambda: None)
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._last = b""

    async def digests(self) -> bytes:
        """Digests of the prefixes that were used last, one after the other; what it said before if it is busy."""
        self._answer = asyncio.get_running_loop().create_future()
        with suppress(zmq.Again, TimeoutError):
            self._link.send(PrefixQuery(MAX_DIGESTS))
            async with asyncio.timeout(ANSWER_SECONDS):
                self._last = await self._answer
        return self._last

    def _handle(self, message: ToWorker) -> None:
        if isinstance(message, PrefixReply) and not self._answer.done():
            self._answer.set_result(message.digests)
