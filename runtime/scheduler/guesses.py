"""How well a sequence can be foretold."""

from __future__ import annotations

from runtime.scheduler.sequence import Sequence

_STEP = 0.12
"""How far one guess moves the rate; about eight guesses are remembered."""


class Guesses:
    """Guesses of a sequence's next tokens, and the rate at which they come true.

    A guess is judged by the tokens that came, whether the model ran it as a draft or not. So the rate of a sequence
    that is not worth drafting for costs nothing to know, and drafting begins as soon as it pays.

    Args:
        rate: What to expect of the sequence at first, in [0, 1].
    """

    __slots__ = ("_place", "guess", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.guess: list[int] = []
        self._place = 0

    def judge(self, sequence: Sequence) -> None:
        """Compare the last guess with what has come since, up to its first error."""
        came = sequence.tokens[self._place : self._place + len(self.guess)]
        for guessed, token in zip(self.guess, came, strict=False):
            right = guessed == token
            self.rate += _STEP * (right - self.rate)
            if not right:
                return

    def note(self, sequence: Sequence, guess: list[int]) -> None:
        """Remember what is expected to follow the sequence's tokens."""
        self.guess, self._place = guess, len(sequence.tokens)
