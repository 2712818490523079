"""One HTTP worker's view of the engine: requests go in, outputs come back to the right reader."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from contextlib import suppress

import zmq

from runtime.limits import EngineLimits
from runtime.messages import (
    Abort,
    AddRequest,
    Rejected,
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
from server.engine_messages import add_request, refusal
from server.errors import (
    ServerError,
    UnavailableError,
)
from server.replay_queue import ReplayQueue
from server.replayed_stream import ReplayedStream
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

    Survives the engine: a new engine at the same endpoint is greeted by itself. What is open when one dies fails at
    once or, with ``replay_seconds``, is run again by the next one without its reader noticing more than a pause;
    what comes meanwhile waits. All methods have to be called on the loop that ``start`` ran on.

    Args:
        socket_path: Filesystem path of the engine's endpoint.
        replay_seconds: How long a request waits for a new engine; 0 has it fail at once.
        stopping: Says that there will be no new engine.

    Attributes:
        on_step: Called with the number of outputs in each step's message, unless there are none.
        on_replay: Called for each request that is run again.
    """

    def __init__(
        self, socket_path: str, replay_seconds: float = 0.0, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self.on_step: Callable[[int], None] = lambda _: None
        self.on_replay: Callable[[], None] = lambda: None
        self._socket_path = socket_path
        self._link: EngineLink | None = None
        self._ids = itertools.count(1)
        self._streams: dict[int, RequestStream] = {}
        self._queue = ReplayQueue(replay_seconds, submit=self._resubmit, give_up=self._give_up, hopeless=stopping)
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
    def boot_id(self) -> str:
        """Names the life of the engine that was heard of last; empty before the first."""
        return self._boot_id

    @property
    def open_requests(self) -> int:
        """Requests of this worker that the engine is working on, or is to work on once it is there."""
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
            self._queue.close()
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
            counted: ``on_step`` is told of its outputs; a request that is not counted asks after this engine, and
                never waits for another one.

        Raises:
            UnavailableError: The engine is not connected, or too many requests wait for it to be.
            TimeIsUpError: There is no time left for the request.
        """
        request_id = next(self._ids)
        message = add_request(request_id, prompt, sampling, samples)
        deadline = current().deadline
        stream: RequestStream
        if counted and self._queue.on:
            stream = ReplayedStream(message, deadline, self._abort)
            if self.ready:
                self._send(message)
            elif len(self._queue) < self.limits.max_queued:
                self._queue.add(stream)
            else:
                raise UnavailableError("the engine is restarting and its queue is full", RETRY_AFTER_LOSS)
        else:
            self._send(message)
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

    def _abort(self, request_id: int, sample: int) -> None:
        stream = self._streams.get(request_id)
        if stream is None:
            return
        with suppress(UnavailableError):
            self._send(Abort(request_id, sample))
        if sample < 0 or stream.finished:
            self._forget(request_id)

    def _forget(self, request_id: int) -> RequestStream | None:
        """A request has ended; returns its stream, unless that had ended before."""
        stream = self._streams.pop(request_id, None)
        self._queue.settle(request_id)
        return stream

    def _handle(self, message: ToWorker) -> None:
        self._last_message = self._loop.time()
        match message:
            case StepOutputs(outputs=outputs):
                self._spread(outputs)
            case Rejected(request_id=request_id):
                if (stream := self._forget(request_id)) is not None:
                    stream.fail(refusal(message))
            case StatsReply(query_id=query_id, stats=stats):
                future = self._queries.get(query_id)
                if future is not None and not future.done():
                    future.set_result(stats)
            case Welcome(boot_id=boot_id, limits=limits):
                if self._boot_id not in ("", boot_id):
                    self._lose("the engine was restarted; try again")
                self._boot_id, self._limits = boot_id, limits
                self._welcomed.set()
                self._queue.flush()

    def _spread(self, outputs: list[TokenOutput]) -> None:
        counted = 0
        for output in outputs:
            if output.finish not in (FinishReason.ABORT, FinishReason.ERROR):
                self._last_output = self._last_message
            stream = self._streams.get(output.request_id)
            if stream is None:
                counted += 1
                continue
            new = stream.put(output)
            counted += new and stream.counted
            if stream.finished:
                self._forget(output.request_id)
            elif new and output.request_id == self._queue.suspect:
                self._queue.settle(output.request_id)
        if counted:
            self.on_step(counted)

    def _on_loss(self) -> None:
        was_ready, before = self.ready, len(self._streams)
        self._lose("the engine stopped; try again")
        if was_ready:
            kept = len(self._streams)
            logger.warning("the engine has gone; requests lost: %d, kept: %d", before - kept, kept)

    def _lose(self, message: str) -> None:
        """Fail everything open that the next engine cannot take over: its engine process is gone."""
        self._welcomed.clear()
        for request_id, stream in [*self._streams.items()]:
            if not (isinstance(stream, ReplayedStream) and self._queue.lose(stream)):
                del self._streams[request_id]
                stream.fail(UnavailableError(message, RETRY_AFTER_LOSS))
        for future in self._queries.values():
            if not future.done():
                future.set_exception(UnavailableError(message, RETRY_AFTER_LOSS))

    def _resubmit(self, stream: ReplayedStream) -> None:
        """Give the engine a request that has waited for it."""
        try:
            for message in stream.messages():
                self._send(message)
        except UnavailableError as error:
            self._forget(stream.request_id)
            stream.fail(error)
        else:
            if stream.losses:
                self.on_replay()

    def _give_up(self, stream: ReplayedStream) -> None:
        """Fail a request that no engine came for."""
        self._forget(stream.request_id)
        stream.fail(UnavailableError("no engine could take the request in time; try again", RETRY_AFTER_LOSS))
