"""Command-line arguments of the benchmarks: what cannot be read is one clear message."""

from __future__ import annotations

import argparse
from collections.abc import Callable


class UsageError(argparse.ArgumentTypeError):
    """What was asked for makes no sense; the message is for the user."""


def positive(text: str) -> float:
    """A finite number above 0.

    Raises:
        UsageError: It is not.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        message = f"must be a number above 0, not {text!r}"
        raise UsageError(message)
    return value


def at_least(low: int) -> Callable[[str], int]:
    """Argument type: a whole number of ``low`` or more."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            message = f"must be a whole number of {low} or more, not {text!r}"
            raise UsageError(message)
        return int(text)

    return parse
