"""What every engine under measurement can do, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmarks.peers.errors import PeerError


@dataclass(frozen=True)
class Completion:
    """One request: when it was handed over, got its first and its last token (seconds on the monotonic clock, which
    all processes share), and how many tokens it got."""

    began: float
    first: float
    ended: float
    tokens: int


class Engine(Protocol):
    """A running engine."""

    @property
    def root(self) -> int:
        """Process id that all processes of the engine descend from."""
        ...

    def generate(self, prompts: list[list[int]], new_tokens: int) -> list[Completion]:
        """Continue all ``prompts`` at once, greedily, past any end-of-sequence token.

        Raises:
            PeerError: It failed.
        """
        ...


def checked(completions: list[Completion], requests: int, new_tokens: int) -> list[Completion]:
    """The same, if every request got what was asked for.

    Raises:
        PeerError: It did not.
    """
    if len(completions) != requests:
        raise PeerError(f"{len(completions)} answers to {requests} requests")
    for completion in completions:
        if completion.tokens != new_tokens:
            raise PeerError(f"a request got {completion.tokens} tokens instead of {new_tokens}")
        if not completion.began <= completion.first <= completion.ended:
            raise PeerError(f"the times of a request are out of order: {completion}")
    return completions
