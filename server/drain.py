"""Leaves soon when told to stop: gunicorn would wait for idle keep-alive connections as if they were busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

POLL_SECONDS = 0.2
QUIET_POLLS = 3
"""Polls in a row without a request before the worker leaves: a body may still be arriving."""


async def leave_when_quiet(
    draining: Callable[[], bool], open_requests: Callable[[], int], leave: Callable[[], None]
) -> None:
    """Wait until the worker is draining and answers nothing any more, then call ``leave``."""
    quiet = 0
    while quiet < QUIET_POLLS:
        await asyncio.sleep(POLL_SECONDS)
        quiet = quiet + 1 if draining() and open_requests() == 0 else 0
    leave()
