"""Checks constraints before the engine sees them, on threads: some take a second to be found wrong."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from runtime.constraints import ConstraintError, check
from runtime.constraints.cache import ConstraintCache
from runtime.limits import EngineLimits
from runtime.request import Constraint
from server.errors import InvalidRequestError, UnavailableError

CHECK_SECONDS = 10.0
"""For one constraint, waiting for a thread included. llguidance's own limits end its work not much later."""

_THREADS = 2


class ConstraintChecker:
    """Says whether constraints can be had, and remembers those that can.

    Args:
        seconds: Time that one may take.
    """

    def __init__(self, seconds: float = CHECK_SECONDS) -> None:
        self._seconds = seconds
        self._checked: ConstraintCache[Constraint] = ConstraintCache()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="constraint")

    async def check(self, constraint: Constraint, name: str, limits: EngineLimits) -> Constraint:
        """Check the constraint that the request's field ``name`` asks for.

        Returns:
            The constraint as the engine takes it.

        Raises:
            InvalidRequestError: It is wrong, too large or too complex, or the engine takes none.
            UnavailableError: Others are being checked for so long that it was never this one's turn.
        """
        if not limits.constraints:
            raise InvalidRequestError(f"{name}: this engine cannot constrain its output", "unsupported", name)
        checked = self._checked.get(constraint)
        if checked is None:
            checked = await self._compile(constraint, name)
            self._checked.put(constraint, checked)
        return checked

    def close(self) -> None:
        """Stop the threads once they are idle."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _compile(self, constraint: Constraint, name: str) -> Constraint:
        work = self._pool.submit(check, constraint)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), self._seconds)
        except ConstraintError as error:
            raise InvalidRequestError(f"{name}: {error}", "invalid_constraint", name) from None
        except TimeoutError:
            if work.cancelled():
                raise UnavailableError("too many constraints are being checked") from None
            message = f"{name} takes longer to compile than the {self._seconds:g} s it may"
            raise InvalidRequestError(message, "invalid_constraint", name) from None
