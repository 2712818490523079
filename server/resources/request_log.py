"""One line in the log for each request that was in the engine; never what it was about."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence

from falcon.asgi import Request

from server.connection import SCOPE_KEY, Connection
from server.errors import InvalidRequestError
from server.logs import Event
from server.observer import Run

logger = logging.getLogger("peregrine.requests")

SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def closer(runs: Sequence[Run], request: Request) -> Callable[[], None]:
    """Frees what ran for an HTTP request and logs how it went."""
    connection: Connection = request.scope[SCOPE_KEY]

    def close() -> None:
        for run in runs:
            run.close()
            event = Event(
                "request",
                path=request.path,
                run=run.request_id,
                prompt_tokens=run.request.prompt_tokens,
                output_tokens=",".join(map(str, run.counts)),
                finish=",".join(run.reasons),
                seconds=round(time.perf_counter() - run.started, 4),
                **_ended_by(run, connection),
            )
            logger.info(event)

    return close


def _ended_by(run: Run, connection: Connection) -> dict[str, str]:
    """Who cut short what did not come to its end, and why."""
    failure = run.failure
    if failure is not None:
        # NOTE: what is said of an invalid request may quote it.
        said = failure.error_code if isinstance(failure, InvalidRequestError) else failure.message
        return {"aborted_by": "server", "error": said}
    if "abort" not in run.reasons:
        return {}
    return {"aborted_by": "slow_reader" if connection.stalled else "client" if connection.gone else "server"}
