"""What came of one request."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, kw_only=True):
    """One request, in seconds since the start of its run.

    Every latency counts from ``arrival``, when the request was to be sent, and not from when the client got round
    to it: otherwise a client that is held up by a slow server leaves the waiting out of its own figures
    (coordinated omission).

    Attributes:
        arrival: When it was to be sent; in a closed loop, when it was sent.
        sent: When the client began to connect.
        token_times: When each token arrived.
        prompt_tokens: As the server counted them; 0 where it did not say.
        wanted_tokens: Output tokens asked for.
        status: HTTP status; 0 where there was no answer.
        error: Why the answer is not whole; empty where it is.
    """

    arrival: float
    sent: float
    token_times: list[float] = []
    prompt_tokens: int = 0
    wanted_tokens: int = 0
    status: int = 0
    error: str = ""

    @property
    def whole(self) -> bool:
        """Whether it was answered to the end."""
        return not self.error and bool(self.token_times)

    @property
    def lag(self) -> float:
        """How late the client was."""
        return self.sent - self.arrival

    @property
    def ttft(self) -> float:
        """Time to first token."""
        return self.token_times[0] - self.arrival

    @property
    def e2e(self) -> float:
        """Time to the last token."""
        return self.token_times[-1] - self.arrival

    @property
    def tpot(self) -> float | None:
        """Mean time of each token after the first; ``None`` of a single one."""
        times = self.token_times
        return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None

    @property
    def gaps(self) -> list[float]:
        """Time between neighbouring tokens."""
        return [b - a for a, b in zip(self.token_times, self.token_times[1:], strict=False)]
