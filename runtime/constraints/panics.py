"""Panics of llguidance, which is written in Rust: a ``BaseException`` that no ``except Exception`` meets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runtime.constraints.specification import ConstraintError


@contextmanager
def panics_refuse() -> Iterator[None]:
    """Have a constraint that the library fails on be refused.

    Raises:
        ConstraintError: It has failed.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ConstraintError("the library that compiles constraints fails on this one") from None
