"""One HTTP worker's view of the engine: requests go in, outputs come back to the right reader."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress

import zmq

from runtime.limits import EngineLimits
from runtime.messages import (
    TIME_IS_UP,
    Abort,
    AddRequest,
    Rejected,
    RejectReason,
    StatsQuery,
    StatsReply,
    StepOutputs,
    TokenOutput,
    ToWorker,
    Welcome,
)
from runtime.request import FinishReason, SamplingParams
from runtime.stats import EngineStats
from server.engine_link import EngineLink
from server.errors import (
    InvalidRequestError,
    QueueFullError,
    RefusedError,
    ServerError,
    TimeIsUpError,
    UnavailableError,
)
from server.request_context import current
from server.request_stream import RequestStream

logger = logging.getLogger("peregrine.engine")

RETRY_AFTER_LOSS = 5
"""Seconds told to clients while the engine is down: about what a restart takes."""

START_SECONDS = 600.0
"""How long a new worker waits for the engine, which may be loading its model: one that gives up ends the server."""

RECENT_SECONDS = 1.0
"""An engine that was heard of so recently is alive without asking."""


class EngineClient:
    """Sends requests to the engine and spreads what comes back over ``RequestStream`` objects.

    Survives the engine: what is open when it dies fails at once, and a new engine at the same endpoint is
    greeted by itself. All methods have to be called on the loop that ``start`` ran on.

    Args:
        socket_path: Filesystem path of the engine's endpoint.

    Attributes:
        on_step: Called with the number of outputs in each step's message, unless there are none.
    """

    def __init__(self, socket_path: str) -> None:
        self.on_step: Callable[[int], None] = lambda _: None
        self._socket_path = socket_path
        self._link: EngineLink | None = None
        self._ids = itertools.count(1)
        self._streams: dict[int, RequestStream] = {}
        self._queries: dict[int, asyncio.Future[EngineStats]] = {}
        self._limits: EngineLimits | None = None
        self._boot_id = ""
        self._welcomed = asyncio.Event()
        self._last_message = 0.0
        self._last_output = float("-inf")

    @property
    def limits(self) -> EngineLimits:
        """What the engine can take; known from the first welcome on, also while the engine restarts.

        Raises:
            UnavailableError: No engine has been reached yet.
        """
        if self._limits is None:
            raise UnavailableError("the engine is starting", RETRY_AFTER_LOSS)
        return self._limits

    @property
    def scores(self) -> bool:
        """Whether the engine's model gives scores, and no text; false until one has been reached."""
        return self._limits is not None and self._limits.scores

    @property
    def ready(self) -> bool:
        """Whether the engine is connected and has said what it can take."""
        return self._welcomed.is_set()

    @property
    def open_requests(self) -> int:
        """Requests of this worker that the engine is working on."""
        return len(self._streams)

    async def start(self, timeout: float = START_SECONDS) -> None:  # noqa: ASYNC109 - the caller's start-up deadline
        """Connect and wait for the engine's welcome.

        Raises:
            TimeoutError: No engine answered within ``timeout`` seconds.
        """
        self._loop = asyncio.get_running_loop()
        self._link = EngineLink(self._socket_path, self._handle, self._on_loss)
        async with asyncio.timeout(timeout):
            await self._welcomed.wait()

    async def close(self) -> None:
        """Disconnect and fail whatever is still open."""
        if self._link is not None:
            self._lose("the server is shutting down")
            self._link.close()
            self._link = None

    def submit(
        self, prompt: list[int], sampling: SamplingParams, samples: int = 1, *, counted: bool = True
    ) -> RequestStream:
        """Queue a request in the engine and return where its outputs will come.

        Args:
            prompt: Token ids.
            sampling: Of all samples.
            samples: Independent outputs.
            counted: ``on_step`` is told of its outputs.

        Raises:
            UnavailableError: The engine is not connected.
            TimeIsUpError: There is no time left for the request.
        """
        request_id = next(self._ids)
        self._send(self._add_request(request_id, prompt, sampling, samples))
        deadline = current().deadline
        stream = RequestStream(request_id, samples, self._abort, counted=counted, deadline=deadline)
        self._streams[request_id] = stream
        return stream

    async def stats(self, timeout: float = 5.0) -> EngineStats:  # noqa: ASYNC109 - a deadline for one answer
        """Ask the engine for its load and counters.

        Raises:
            UnavailableError: The engine is not connected or did not answer within ``timeout`` seconds.
        """
        query_id = next(self._ids)
        self._send(StatsQuery(query_id))
        future: asyncio.Future[EngineStats] = self._loop.create_future()
        self._queries[query_id] = future
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise UnavailableError("the engine does not answer", RETRY_AFTER_LOSS) from None
        finally:
            del self._queries[query_id]

    async def alive(self, timeout: float) -> bool:  # noqa: ASYNC109 - a deadline for one answer
        """Whether the engine's loop turns: it was heard of just now, or answers within ``timeout``."""
        if self.ready and self._loop.time() - self._last_message < RECENT_SECONDS:
            return True
        try:
            await self.stats(timeout)
        except ServerError:
            return False
        return True

    def productive(self, seconds: float) -> bool:
        """Whether the engine is connected and gave an output, not an error, within the last ``seconds``."""
        return self.ready and self._loop.time() - self._last_output < seconds

    def _send(self, message: AddRequest | Abort | StatsQuery) -> None:
        if self._link is None or not self.ready:
            raise UnavailableError("the engine is restarting", RETRY_AFTER_LOSS)
        try:
            self._link.send(message)
        except zmq.Again:
            raise UnavailableError("the engine cannot be reached", RETRY_AFTER_LOSS) from None

    @staticmethod
    def _add_request(request_id: int, prompt: list[int], sampling: SamplingParams, samples: int) -> AddRequest:
        """The message, with what the HTTP request brought besides its body.

        Raises:
            TimeIsUpError: There is no time left for it.
        """
        context = current()
        seconds = 0.0
        if context.deadline < math.inf:
            seconds = context.deadline - time.monotonic()
            if seconds <= 0:
                raise TimeIsUpError(TIME_IS_UP)
        return AddRequest(
            request_id, prompt, sampling, samples, context.salt, context.tenant, context.priority, seconds
        )

    def _abort(self, request_id: int, sample: int) -> None:
        stream = self._streams.get(request_id)
        if stream is None:
            return
        if sample < 0 or stream.finished:
            del self._streams[request_id]
        with suppress(UnavailableError):
            self._send(Abort(request_id, sample))

    def _handle(self, message: ToWorker) -> None:
        self._last_message = self._loop.time()
        match message:
            case StepOutputs(outputs=outputs):
                self._spread(outputs)
            case Rejected(request_id=request_id):
                stream = self._streams.pop(request_id, None)
                if stream is not None:
                    stream.fail(_refusal(message))
            case StatsReply(query_id=query_id, stats=stats):
                future = self._queries.get(query_id)
                if future is not None and not future.done():
                    future.set_result(stats)
            case Welcome(boot_id=boot_id, limits=limits):
                if self._boot_id not in ("", boot_id):
                    self._lose("the engine was restarted; try again")
                self._boot_id, self._limits = boot_id, limits
                self._welcomed.set()

    def _spread(self, outputs: list[TokenOutput]) -> None:
        counted = 0
        for output in outputs:
            if output.finish not in (FinishReason.ABORT, FinishReason.ERROR):
                self._last_output = self._last_message
            stream = self._streams.get(output.request_id)
            counted += stream is None or stream.counted
            if stream is None:
                continue
            stream.put(output)
            if stream.finished:
                del self._streams[output.request_id]
        if counted:
            self.on_step(counted)

    def _on_loss(self) -> None:
        if self.ready:
            logger.warning("the engine has gone; requests lost: %d", len(self._streams))
        self._lose("the engine stopped; try again")

    def _lose(self, message: str) -> None:
        """Fail everything open: its engine process is gone."""
        self._welcomed.clear()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.fail(UnavailableError(message, RETRY_AFTER_LOSS))
        for future in self._queries.values():
            if not future.done():
                future.set_exception(UnavailableError(message, RETRY_AFTER_LOSS))


def _refusal(rejected: Rejected) -> ServerError:
    if rejected.reason is RejectReason.INVALID:
        return InvalidRequestError(rejected.message, "request_too_large")
    if rejected.reason is RejectReason.CONSTRAINT:
        return InvalidRequestError(rejected.message, "invalid_constraint")
    if rejected.reason is RejectReason.EXPIRED:
        return TimeIsUpError(rejected.message)
    if rejected.reason is RejectReason.QUARANTINED:
        return InvalidRequestError(rejected.message, "request_quarantined")
    kind = QueueFullError if rejected.reason is RejectReason.QUEUE_FULL else RefusedError
    return kind(rejected.message, max(1, rejected.retry_after))
