"""What the HTTP side asks of an engine, wherever that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runtime.limits import EngineLimits
from runtime.request import SamplingParams
from runtime.stats import EngineStats
from server.request_stream import RequestStream


class EnginePort(Protocol):
    """One engine, or several that look like one.

    Attributes:
        on_step: Called with the number of outputs that came together, unless there are none.
        on_replay: Called for each request that is run again.
    """

    on_step: Callable[[int], None]
    on_replay: Callable[[], None]

    @property
    def limits(self) -> EngineLimits:
        """What a request may ask for; raises ``UnavailableError`` before an engine has been reached."""

    @property
    def scores(self) -> bool:
        """Whether the model gives scores, and no text."""

    @property
    def boot_id(self) -> str:
        """Names the life of the engine; empty for several engines."""

    @property
    def ready(self) -> bool:
        """Whether requests are taken now."""

    async def close(self) -> None:
        """Disconnect and fail whatever is still open."""

    def submit(
        self, prompt: list[int], sampling: SamplingParams, samples: int = 1, *, counted: bool = True
    ) -> RequestStream:
        """Queue a request and return where its outputs will come; raises ``UnavailableError`` where nobody is there."""

    async def stats(self, timeout: float = 5.0) -> EngineStats:  # noqa: ASYNC109 - a deadline for one answer
        """Load and counters; raises ``UnavailableError`` where none can be had in time."""

    async def alive(self, timeout: float) -> bool:  # noqa: ASYNC109 - a deadline for one answer
        """Whether an engine answers within ``timeout`` seconds."""

    def productive(self, seconds: float) -> bool:
        """Whether an output, and not an error, came within the last ``seconds``."""
