"""Checking constraints: off the event loop, within a time, and for those who wait too."""

from __future__ import annotations

import asyncio
import threading

import pytest
from test_validation import LIMITS

from runtime.request import Constraint, ConstraintKind
from server import constraints
from server.constraints import ConstraintChecker
from server.errors import InvalidRequestError, UnavailableError


def test_a_check_has_its_time_and_so_has_waiting_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def slow(constraint: Constraint) -> Constraint:
        assert over.wait(30)
        return constraint

    monkeypatch.setattr(constraints, "check", slow)
    checker = ConstraintChecker(seconds=0.2)

    async def check_all() -> list[Constraint | BaseException]:
        asked = [Constraint(ConstraintKind.REGEX, text) for text in "abc"]
        checks = [checker.check(constraint, "field", LIMITS) for constraint in asked]
        return await asyncio.gather(*checks, return_exceptions=True)

    first, second, third = asyncio.run(check_all())
    over.set()
    checker.close()
    for error in (first, second):
        assert isinstance(error, InvalidRequestError)
        assert "0.2 s" in error.message
    assert isinstance(third, UnavailableError)
