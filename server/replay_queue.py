"""Requests that wait for an engine: new ones, and ones whose engine has died."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from server.replayed_stream import ReplayedStream

SWEEP_SECONDS = 0.25


class ReplayQueue:
    """Keeps requests while there is no engine, for a bounded time, and gives them to the next one in their order.

    Who was there when two engines died, and got no further in the second, is suspected of killing them. Suspects run
    again one after the other, the next once the one before has got further: an engine that dies once more takes one
    of them with it.

    Args:
        seconds: How long a request waits; 0 keeps none.
        submit: Sends a request to the engine.
        give_up: Told of each request that has waited for too long.
        hopeless: Says that no engine will come.

    Attributes:
        suspect: Request id of the suspect that runs.
    """

    def __init__(
        self,
        seconds: float,
        *,
        submit: Callable[[ReplayedStream], None],
        give_up: Callable[[ReplayedStream], None],
        hopeless: Callable[[], bool] = lambda: False,
    ) -> None:
        self._seconds = seconds
        self._submit, self._give_up, self._hopeless = submit, give_up, hopeless
        self._waiting: dict[int, ReplayedStream] = {}
        self.suspect: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def on(self) -> bool:
        """Whether requests are kept."""
        return self._seconds > 0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def add(self, stream: ReplayedStream) -> None:
        """Keep a request that no engine has."""
        stream.wait(self._seconds)
        self._waiting[stream.request_id] = stream
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def lose(self, stream: ReplayedStream) -> bool:
        """The engine has gone with a request, or while it waited; returns whether it is kept."""
        self.suspect = None
        if stream.request_id in self._waiting:
            stream.wait_until = min(stream.wait_until, time.monotonic() + self._seconds)
            return True
        if not self.on or not stream.lose():
            return False
        self.add(stream)
        return True

    def flush(self) -> None:
        """There is an engine: send it what waits, but one suspect at a time."""
        for request_id, stream in sorted(self._waiting.items()):
            if request_id not in self._waiting:
                continue
            if stream.suspect:
                if self.suspect is not None:
                    stream.wait(math.inf)
                    continue
                self.suspect = request_id
            del self._waiting[request_id]
            self._submit(stream)

    def settle(self, request_id: int) -> None:
        """A request has brought something new, or has ended."""
        self._waiting.pop(request_id, None)
        if request_id == self.suspect:
            self.suspect = None
            self.flush()

    def close(self) -> None:
        """Keep nothing any more."""
        self._waiting.clear()
        self._seconds = 0.0
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        self._timer = None
        now, hopeless = time.monotonic(), self._hopeless()
        for stream in [*self._waiting.values()]:
            if hopeless or now >= stream.wait_until:
                self._give_up(stream)
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
