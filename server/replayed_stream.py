"""A request that outlives its engine: run again from its prompt, without what its reader has had."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable

import msgspec

from runtime.messages import Abort, AddRequest, TokenOutput
from runtime.request import FinishReason
from server.errors import UnavailableError
from server.request_stream import RequestStream

MAX_LOSSES = 3
"""Engines in a row that die with a request, none of them further with it than the one before, until it is given up."""

_FAILURES = (FinishReason.ERROR, FinishReason.ABORT)


class ReplayedStream(RequestStream):
    """A stream that can be begun anew.

    The same request brings the same tokens: draws are a function of its seed, the sample and the position, and
    nothing depends on what runs beside it. That a second run begins as the first one did is checked all the same;
    where another bundle or library brings something else, the request fails.

    Args:
        message: What the engine is told.
        deadline: ``time.monotonic()`` after which nobody wants the answer any more.
        abort: As of ``RequestStream``.

    Attributes:
        losses: Engines, or connections to one, that were lost with it and brought nothing new but for the first.
        wait_until: ``time.monotonic()`` until which it waits for an engine.
    """

    __slots__ = ("_advanced", "_had", "_message", "_places", "_wanted_until", "losses", "wait_until")

    def __init__(self, message: AddRequest, deadline: float, abort: Callable[[int, int], None]) -> None:
        super().__init__(message.request_id, message.samples, abort, deadline=deadline)
        self._message = message
        self._wanted_until = deadline
        self._had = [array("i") for _ in range(message.samples)]
        self._places = [0] * message.samples
        self._advanced = False
        self.losses = 0
        self.wait_until = math.inf

    @property
    def suspect(self) -> bool:
        """Whether it may be what kills the engines: it was in two that died, and got no further in the second.

        NOTE: what kills an engine in one place does so again in the same place.
        """
        return self.losses == MAX_LOSSES - 1

    def lose(self) -> bool:
        """Its engine has gone; returns whether it may run again."""
        self.losses = 1 if self._advanced else self.losses + 1
        self._advanced = False
        self._places = [0] * len(self._places)
        return self.losses < MAX_LOSSES

    def wait(self, seconds: float) -> None:
        """Have it wait for an engine, so long at most."""
        self.wait_until = min(time.monotonic() + seconds, self._wanted_until)

    def messages(self) -> list[AddRequest | Abort]:
        """What an engine has to be told now; samples that have ended stay so."""
        request = msgspec.structs.replace(self._message, admitted=self.losses > 0)
        if self._wanted_until < math.inf:
            request.seconds_left = max(1e-3, self._wanted_until - time.monotonic())
        ended = set(range(request.samples)) - self._open
        return [request, *(Abort(self.request_id, sample) for sample in sorted(ended))]

    def put(self, output: TokenOutput) -> bool:
        """Add one output unless the reader has had it; fails the request where that was another one."""
        if output.sample not in self._open or output.finish in _FAILURES:
            return super().put(output)
        had, place = self._had[output.sample], self._places[output.sample]
        self._places[output.sample] += 1
        if place == len(had):
            had.append(output.token_id)
            self._advanced = True
            return super().put(output)
        if output.token_id != had[place] or output.finish is not FinishReason.NONE:
            self.cancel(UnavailableError("the engine was restarted and goes on differently; try again"))
        return False
