"""Streams of ``/v1``: one event a chunk, ``[DONE]`` at the end; an error instead of it where the engine fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from server.errors import ClientGoneError, ServerError
from server.generation import TokenEvent
from server.native_format import encode
from server.openai.call import Call, Events
from server.openai.errors import body_of, error_body

logger = logging.getLogger("peregrine.requests")

LAST = "[DONE]"
DONE = f"data: {LAST}\n\n".encode()


class ChunkWriter(Protocol):
    """Says what goes into a stream."""

    def beginning(self) -> Sequence[Any]:
        """Chunks before the first token."""

    def chunks(self, prompt: int, event: TokenEvent) -> Sequence[Any]:
        """Chunks of one token."""

    def ending(self) -> Sequence[Any]:
        """Chunks after the last token."""


class EventStream:
    """The frames of a running call; what has come since the last part of the body is one part.

    Args:
        call: What runs.
        writer: Makes chunks of it.
        events: Its first tokens.
    """

    __slots__ = ("_call", "_events", "_frames", "_over", "_writer")

    def __init__(self, call: Call, writer: ChunkWriter, events: Events) -> None:
        self._call, self._writer, self._events = call, writer, events
        self._frames = frames(writer.beginning())
        self._over = False

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> bytes:
        part, self._frames = self._frames, b""
        while not part:
            if self._over:
                raise StopAsyncIteration
            part = await self._part()
        return part

    async def _part(self) -> bytes:
        try:
            events, self._events = self._events or await self._call.events(), []
            chunks = [chunk for index, event in events for chunk in self._writer.chunks(index, event)]
            if not self._call.done:
                return frames(chunks)
            self._over = True
            return frames([*chunks, *self._writer.ending()]) + DONE
        except ClientGoneError:
            raise StopAsyncIteration from None
        except ServerError as error:
            failure = body_of(error)
        except Exception:
            # NOTE: this runs outside Falcon's error handlers; what escapes cuts the connection.
            logger.exception("a stream failed")
            failure = error_body(500, "internal error")
        self._over = True
        self._call.cancel()
        return frames([failure])


def frames(chunks: Sequence[Any]) -> bytes:
    """Server-sent events."""
    return b"".join([b"data: %b\n\n" % encode(chunk) for chunk in chunks])
