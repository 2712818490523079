"""One ingress' view of all engines: requests go to whom the router chooses, outputs come back to their readers."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from runtime.limits import EngineLimits
from runtime.messages import StepOutputs
from runtime.request import FinishReason, SamplingParams
from runtime.stats import EngineStats
from server.engine_messages import add_request
from server.errors import ServerError, UnavailableError
from server.fleet.roster import ROSTER
from server.fleet.totals import total
from server.fleet.wire import LOST_RETRY_SECONDS, ReplicaState, decode_reply, decode_state, demand_of, encode
from server.replayed_stream import ReplayedStream
from server.request_context import current
from server.request_stream import RequestStream

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

logger = logging.getLogger("peregrine.fleet")


class FleetClient:
    """An ``EnginePort`` onto a deployment of ``EngineReplica``.

    Has to be used on the loop that ``start`` ran on.

    Args:
        handle: The engines' deployment.

    Attributes:
        on_step: See ``EnginePort``.
        on_replay: See ``EnginePort``.
        last_states: What the engines said of themselves when they were asked last.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self.on_step: Callable[[int], None] = lambda _: None
        self.on_replay: Callable[[], None] = lambda: None
        self._handle = handle
        self._generate = handle.options(method_name="generate", stream=True)
        self._name = uuid.uuid4().hex
        self._ids = itertools.count(1)
        self.last_states: list[ReplicaState] = []
        self._requests: dict[int, asyncio.Task[None]] = {}
        self._keys: dict[int, str] = {}
        self._limits: EngineLimits | None = None
        self._last_output = float("-inf")

    @property
    def limits(self) -> EngineLimits:
        """What a request may ask for; all engines are alike.

        Raises:
            UnavailableError: No engine has been reached yet.
        """
        if self._limits is None:
            raise UnavailableError("the engines are starting", LOST_RETRY_SECONDS)
        return self._limits

    @property
    def scores(self) -> bool:
        """Whether the model gives scores, and no text."""
        return self._limits is not None and self._limits.scores

    @property
    def boot_id(self) -> str:
        """See ``EnginePort``."""
        return ""

    @property
    def ready(self) -> bool:
        """Whether there is an engine."""
        return self._limits is not None and ROSTER.engines > 0

    async def start(self) -> None:
        """Wait for the first engine."""
        self._loop = asyncio.get_running_loop()
        # NOTE: Serve has it wait for the first engine.
        self._limits = decode_state(await self._handle.state.remote()).limits

    async def close(self) -> None:
        """Fail whatever is still open."""
        for task in [*self._requests.values()]:
            task.cancel()

    def submit(
        self, prompt: list[int], sampling: SamplingParams, samples: int = 1, *, counted: bool = True
    ) -> RequestStream:
        """Give a request to an engine and return where its outputs will come.

        Raises:
            UnavailableError: There is none.
        """
        if not self.ready:
            raise UnavailableError("no engine is running", LOST_RETRY_SECONDS)
        request_id = next(self._ids)
        request = add_request(request_id, prompt, sampling, samples)
        stream = ReplayedStream(request, current().deadline, self._abort)
        stream.counted = counted
        task = self._loop.create_task(self._run(request_id, stream))
        self._requests[request_id] = task
        task.add_done_callback(lambda _: self._requests.pop(request_id, None))
        return stream

    async def states(self, timeout: float = 5.0) -> list[ReplicaState]:  # noqa: ASYNC109 - a deadline for all answers
        """What the engines that answer say of themselves, in the order of their names."""
        try:
            answers = await self._handle.broadcast("state").results_async(timeout_s=timeout, return_exceptions=True)
        except (TimeoutError, RayError, RayServeException):
            return []
        states = [decode_state(answer) for answer in answers if isinstance(answer, bytes)]
        self.last_states = sorted(states, key=lambda state: state.replica)
        return self.last_states

    async def stats(self, timeout: float = 5.0) -> EngineStats:  # noqa: ASYNC109 - a deadline for all answers
        """Load and counters of all engines together.

        Raises:
            UnavailableError: None of them answers.
        """
        states = await self.states(timeout)
        if not states:
            raise UnavailableError("no engine answers", LOST_RETRY_SECONDS)
        return total(state.stats for state in states)

    async def alive(self, timeout: float) -> bool:  # noqa: ASYNC109 - a deadline for one answer
        """Whether an engine answers within ``timeout`` seconds."""
        return bool(await self.states(timeout))

    def productive(self, seconds: float) -> bool:
        """Whether an engine gave an output, not an error, within the last ``seconds``."""
        return self.ready and self._loop.time() - self._last_output < seconds

    async def _run(self, request_id: int, stream: ReplayedStream) -> None:
        """Have engines do a request until one of them does."""
        try:
            error = await self._run_once(request_id, stream)
            while type(error) is UnavailableError and stream.lose():
                logger.warning("request %d lost its engine (%s); trying another", request_id, error.message)
                self.on_replay()
                error = await self._run_once(request_id, stream)
            if error is not None:
                stream.fail(error)
        except asyncio.CancelledError:
            stream.fail(UnavailableError("the server is shutting down", LOST_RETRY_SECONDS))

    async def _run_once(self, request_id: int, stream: ReplayedStream) -> ServerError | None:
        """Read what one engine makes of a request; returns why it did not do it."""
        messages = stream.messages()
        demand = demand_of(messages, self.limits.block_size)
        # NOTE: a name of its own for each attempt, since Serve may not yet know that one is over.
        key = self._keys[request_id] = f"{self._name}:{request_id}:{stream.losses}"
        response = self._generate.remote(key, encode(messages), demand)
        try:
            async for frame in response:
                reply = decode_reply(frame)
                if not isinstance(reply, StepOutputs):
                    return reply.error()
                self._spread(reply, stream)
            return None if stream.finished else UnavailableError("the engine ended the request early")
        except (RayError, RayServeException) as error:
            return UnavailableError(f"the engine stopped ({type(error).__name__}); try again", LOST_RETRY_SECONDS)
        except asyncio.CancelledError:
            response.cancel()
            raise
        finally:
            del self._keys[request_id]

    def _spread(self, reply: StepOutputs, stream: ReplayedStream) -> None:
        new = 0
        for output in reply.outputs:
            if output.finish not in (FinishReason.ABORT, FinishReason.ERROR):
                self._last_output = self._loop.time()
            new += stream.put(output)
        if new and stream.counted:
            self.on_step(new)

    def _abort(self, request_id: int, sample: int) -> None:
        task = self._requests.get(request_id)
        if task is None:
            return
        if sample < 0:
            task.cancel()
        elif key := self._keys.get(request_id):
            # NOTE: to all of them, for who has it is between Serve and its router.
            self._loop.create_task(self._tell("abort", key, sample))

    async def _tell(self, method: str, *arguments: object) -> None:
        try:
            await self._handle.broadcast(method, *arguments).results_async(timeout_s=5.0, return_exceptions=True)
        except (TimeoutError, RayError, RayServeException) as error:
            logger.warning("%s did not reach all engines: %s", method, type(error).__name__)
