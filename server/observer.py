"""Between what runs in the engine and who measures and logs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from runtime.messages import TokenOutput
from server.errors import ServerError

if TYPE_CHECKING:
    from server.validation import ValidRequest


class Run(Protocol):
    """One request in the engine: a generation or a score."""

    @property
    def request(self) -> ValidRequest:
        """What runs."""

    @property
    def request_id(self) -> int:
        """Unique on this worker."""

    @property
    def seconds_before(self) -> float:
        """From the request's arrival to its queuing in the engine."""

    @property
    def started(self) -> float:
        """``time.perf_counter()`` when it was queued."""

    @property
    def first_token_at(self) -> float:
        """The same for its first token, or its score; 0 before."""

    @property
    def counts(self) -> Sequence[int]:
        """Tokens of each output so far."""

    @property
    def reasons(self) -> Sequence[str]:
        """Why each output ended, one of stop, length, error and abort; ``abort`` where it has not."""

    @property
    def failure(self) -> ServerError | None:
        """Why one of them is error."""

    def close(self) -> None:
        """Free what is still held and report the end."""


class Observer(Protocol):
    """What wants to know how requests go; see ``server.metrics``."""

    def first_token(self, run: Run, output: TokenOutput) -> None:
        """The first token of the first output, or the score, is there."""

    def token(self, run: Run, gap: float) -> None:
        """A later token is there, ``gap`` seconds after the previous one of its output."""

    def finished(self, run: Run) -> None:
        """The request ended."""


class Observers:
    """Tells several.

    Args:
        observers: In the order in which they are told.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def first_token(self, run: Run, output: TokenOutput) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.first_token(run, output)

    def token(self, run: Run, gap: float) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.token(run, gap)

    def finished(self, run: Run) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.finished(run)
