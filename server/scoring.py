"""Scores from the engine: started together, awaited together."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.messages import TokenOutput
from server.engine_port import EnginePort
from server.errors import ClientGoneError, ServerError, UnavailableError
from server.observer import Observer
from server.request_stream import RequestStream
from server.tasks import all_of
from server.validation import ValidRequest


class Score:
    """One chat in the engine; a ``server.observer.Run`` that generates nothing.

    Attributes:
        request: What runs.
        seconds_before: From the request's arrival to its queuing in the engine.
        started: ``time.perf_counter()`` when it was queued.
        first_token_at: The same for its score; 0 before.
        reasons: How it ended.
        failure: Why, if with an error.
    """

    counts = (0,)

    def __init__(
        self, request: ValidRequest, stream: RequestStream, observer: Observer, seconds_before: float = 0.0
    ) -> None:
        self.request = request
        self.seconds_before = seconds_before
        self.started = time.perf_counter()
        self.first_token_at = 0.0
        self.reasons = ["abort"]
        self.failure: ServerError | None = None
        self._stream = stream
        self._observer = observer
        self._closed = False

    @property
    def request_id(self) -> int:
        """Unique on this worker."""
        return self._stream.request_id

    async def wait(self) -> float:
        """The score, as the model gives it.

        Raises:
            ServerError: The engine refused, lost or failed the request.
            ClientGoneError: ``cancel`` was called.
        """
        try:
            outputs = await self._stream.take()
            if not outputs:
                raise UnavailableError("the engine ended the request early")
            value = _value(outputs[0])
            self.reasons = ["stop"]
            self.first_token_at = time.perf_counter()
            self._observer.first_token(self, outputs[0])
            return value
        except ServerError as error:
            self.reasons, self.failure = ["error"], error
            raise
        finally:
            self.close()

    def cancel(self) -> None:
        """The client is gone: free the request in the engine and end ``wait`` with ``ClientGoneError``."""
        self._stream.cancel(ClientGoneError())

    def close(self) -> None:
        """Free what is still held and report the end."""
        if not self._closed:
            self._closed = True
            self.cancel()
            self._observer.finished(self)


class ScoreCall:
    """The scores of one call: all of them, or an error.

    Attributes:
        scores: In the order of the chats.
    """

    def __init__(self, scores: Sequence[Score]) -> None:
        self.scores = scores

    async def wait(self) -> list[float]:
        """All scores. Once one of them has failed, the others are freed.

        Raises:
            ServerError: The engine refused, lost or failed one of them.
            ClientGoneError: ``cancel`` was called.
        """
        try:
            return await all_of(score.wait() for score in self.scores)
        finally:
            self.close()

    def cancel(self) -> None:
        """The client is gone."""
        for score in self.scores:
            score.cancel()

    def close(self) -> None:
        """Free what is still held and report the ends."""
        for score in self.scores:
            score.close()


@dataclass(frozen=True, slots=True)
class Scorer:
    """Starts scores."""

    client: EnginePort
    observer: Observer

    def start(self, requests: Sequence[ValidRequest], seconds_before: float = 0.0) -> ScoreCall:
        """Queue ``requests``, which took ``seconds_before`` to check, in the engine, so that they run as one batch.

        Raises:
            UnavailableError: The engine is not connected.
            TimeIsUpError: There is no time left for the call.
        """
        scores: list[Score] = []
        try:
            for request in requests:
                stream = self.client.submit(request.prompt, request.sampling)
                scores.append(Score(request, stream, self.observer, seconds_before))
        except ServerError:
            ScoreCall(scores).close()
            raise
        return ScoreCall(scores)


def _value(output: TokenOutput) -> float:
    if output.score is None:
        raise UnavailableError(output.error or "the engine ended the request")
    if not math.isfinite(output.score):
        raise UnavailableError("the model's score is not a finite number")
    return output.score
