"""Where the engine's outputs for one request wait for the code that answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runtime.messages import TokenOutput
from runtime.request import FinishReason


class RequestStream:
    """One merging slot: outputs pile up in a list that the reader takes whole.

    A slow reader therefore costs at most ``samples * max_new_tokens`` outputs of memory and never blocks the
    engine or another request.

    Args:
        request_id: The id on the worker's connection.
        samples: Samples that will end one by one.
        abort: Called with ``(request_id, sample)`` when a sample is to be freed before its end; -1 is all.
        counted: Metrics are told of its outputs.
    """

    __slots__ = ("_abort", "_error", "_open", "_outputs", "_ready", "counted", "request_id")

    def __init__(
        self, request_id: int, samples: int, abort: Callable[[int, int], None], *, counted: bool = True
    ) -> None:
        self.request_id = request_id
        self.counted = counted
        self._abort = abort
        self._open = set(range(samples))
        self._outputs: list[TokenOutput] = []
        self._ready = asyncio.Event()
        self._error: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return not self._open

    def put(self, output: TokenOutput) -> None:
        """Add one output; what comes for a sample after its end or its cancellation is dropped."""
        if output.sample not in self._open:
            return
        if output.finish is not FinishReason.NONE:
            self._open.discard(output.sample)
        self._outputs.append(output)
        self._ready.set()

    def fail(self, error: Exception) -> None:
        """End all samples; the reader gets what has come so far, then ``error``."""
        if self._open:
            self._open.clear()
            self._error = error
            self._ready.set()

    async def take(self) -> list[TokenOutput]:
        """Wait for outputs and return all there are; an empty list after the end.

        Raises:
            ServerError: The engine refused or lost the request.
            ClientGoneError: ``cancel`` was called for the whole request.
        """
        while not self._outputs:
            if self._error is not None:
                raise self._error
            if not self._open:
                return []
            self._ready.clear()
            await self._ready.wait()
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
