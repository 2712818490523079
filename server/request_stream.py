"""Where the engine's outputs for one request wait for the code that answers it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from runtime.messages import TIME_IS_UP, TokenOutput
from runtime.request import FinishReason
from server.errors import TimeIsUpError

LATE_SECONDS = 0.5
"""What an engine has to say itself that a request's time is up; one that hangs, or is being started, cannot."""


class RequestStream:
    """One merging slot: outputs pile up in a list that the reader takes whole.

    A slow reader therefore costs at most ``samples * max_new_tokens`` outputs of memory and never blocks the
    engine or another request.

    Args:
        request_id: The id on the worker's connection.
        samples: Samples that will end one by one.
        abort: Called with ``(request_id, sample)`` when a sample is to be freed before its end; -1 is all.
        counted: Metrics are told of its outputs.
        deadline: ``time.monotonic()`` after which nobody wants them any more.
    """

    __slots__ = ("_abort", "_deadline", "_error", "_open", "_outputs", "_ready", "counted", "request_id")

    def __init__(
        self,
        request_id: int,
        samples: int,
        abort: Callable[[int, int], None],
        *,
        counted: bool = True,
        deadline: float = math.inf,
    ) -> None:
        self.request_id = request_id
        self.counted = counted
        self._abort = abort
        self._deadline = None if deadline == math.inf else deadline + LATE_SECONDS
        self._open = set(range(samples))
        self._outputs: list[TokenOutput] = []
        self._ready = asyncio.Event()
        self._error: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return not self._open

    def put(self, output: TokenOutput) -> bool:
        """Add one output; what comes for a sample after its end or its cancellation is dropped.

        Returns:
            Whether it was added.
        """
        if output.sample not in self._open:
            return False
        if output.finish is not FinishReason.NONE:
            self._open.discard(output.sample)
        self._outputs.append(output)
        self._ready.set()
        return True

    def fail(self, error: Exception) -> None:
        """End all samples; the reader gets what has come so far, then ``error``."""
        if self._open:
            self._open.clear()
            self._error = error
            self._ready.set()

    async def take(self) -> list[TokenOutput]:
        """Wait for outputs and return all there are; an empty list after the end.

        Raises:
            ServerError: The engine refused or lost the request, or its time is up.
            ClientGoneError: ``cancel`` was called for the whole request.
        """
        while not self._outputs:
            if self._error is not None:
                raise self._error
            if not self._open:
                return []
            self._ready.clear()
            try:
                async with asyncio.timeout_at(self._deadline):
                    await self._ready.wait()
            except TimeoutError:
                self.cancel(TimeIsUpError(TIME_IS_UP))
        outputs, self._outputs = self._outputs, []
        return outputs

    def cancel_sample(self, sample: int) -> None:
        """Free one sample in the engine; its later outputs are dropped."""
        if sample in self._open:
            self._open.discard(sample)
            self._abort(self.request_id, sample)
            self._ready.set()

    def cancel(self, error: Exception) -> None:
        """Free the whole request in the engine and wake the reader with ``error``; no effect after the end."""
        if self._open:
            self._abort(self.request_id, -1)
            self.fail(error)
