"""Who asks for what and when: a trace, as data and as a file of JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from zlib import crc32

import msgspec

END = 0
"""The token that ends an output; no segment has it."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of text. Equal names are equal texts, as far as the shorter of the two goes."""

    name: str
    tokens: int

    def ids(self) -> range:
        """Its token ids: the same for the same name, others for another."""
        first = 1 + crc32(self.name.encode()) // 2  # 32 bits hold every id, as an engine's
        return range(first, first + self.tokens)


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    Attributes:
        seconds: When it comes, from the start of the trace.
        prompt: Its segments; a segment that other prompts begin with as well can be shared.
        output: Tokens after which the model ends by itself.
        limit: ``max_new_tokens``.
        name: Of its output as a segment, for later prompts that go on from it.
        tenant: Who asks.
        patience: Seconds from its arrival after which its client hangs up; ``None`` for never.
    """

    seconds: float
    prompt: list[Segment]
    output: int
    limit: int
    name: str = ""
    tenant: str = ""
    patience: float | None = None

    def at(self, seconds: float) -> Arrival:
        """The same request at another time."""
        return msgspec.structs.replace(self, seconds=seconds)

    def prompt_ids(self) -> list[int]:
        """The prompt's token ids."""
        return [token for segment in self.prompt for token in segment.ids()]

    @property
    def prompt_tokens(self) -> int:
        """How many these are."""
        return sum(segment.tokens for segment in self.prompt)

    @property
    def generated(self) -> int:
        """Tokens that it will generate."""
        return min(self.output, self.limit)


def write_trace(path: Path, arrivals: Iterable[Arrival]) -> None:
    """One line a request."""
    path.write_bytes(b"".join(msgspec.json.encode(arrival) + b"\n" for arrival in arrivals))


def read_trace(path: Path) -> list[Arrival]:
    """What ``write_trace`` has written, or somebody else in the same form; in order of time.

    Raises:
        ValueError: A line is not a request; the message names it.
    """
    decoder = msgspec.json.Decoder(Arrival)
    arrivals = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            arrival = decoder.decode(line)
        except msgspec.MsgspecError as error:
            message = f"{path}:{number}: {error}"
            raise ValueError(message) from None
        if arrival.seconds < 0 or arrival.prompt_tokens < 1 or min(arrival.output, arrival.limit) < 1:
            message = f"{path}:{number}: times are not negative, and a request has a prompt, an output and a limit"
            raise ValueError(message)
        arrivals.append(arrival)
    return in_order(arrivals)


def in_order(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Sorted by time."""
    return sorted(arrivals, key=lambda arrival: arrival.seconds)
