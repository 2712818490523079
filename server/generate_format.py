"""What ``/generate``, ``/generate_stream`` and ``/`` speak: one of these a server."""

from __future__ import annotations

from typing import Protocol

from server.generation import Generation, TokenEvent
from server.validation import ValidRequest


class EventWriter(Protocol):
    """Writes one stream."""

    def frame(self, event: TokenEvent) -> bytes:
        """The server-sent event of the next token."""
        ...

    def failure(self, message: str, count: int) -> bytes:
        """The last event of a stream that cannot go on after ``count`` tokens."""
        ...


class GenerateFormat(Protocol):
    """Reads bodies and writes answers."""

    async def parse(self, body: bytes, *, streaming: bool | None) -> tuple[ValidRequest, bool]:
        """A request, and whether its answer is a stream; ``streaming=None`` lets the body decide.

        Raises:
            InvalidRequestError: Anything is wrong with it.
        """
        ...

    def answer(self, generation: Generation, events: list[TokenEvent]) -> bytes:
        """The whole answer, of a finished generation and all of its events."""
        ...

    def writer(self, request: ValidRequest) -> EventWriter:
        """For the stream of a request with one output."""
        ...
