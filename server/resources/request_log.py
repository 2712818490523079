"""One line in the log for each request that was in the engine; never what it was about."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence

from falcon.asgi import Request

from server.observer import Run

logger = logging.getLogger("peregrine.requests")

SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def closer(runs: Sequence[Run], request: Request) -> Callable[[], None]:
    """Frees what ran for an HTTP request and logs how it went."""
    name = request.get_header("X-Request-Id") or "-"
    safe_name = name if SAFE_NAME.fullmatch(name) else "?"

    def close() -> None:
        for run in runs:
            run.close()
            logger.info(
                "request=%d x_request_id=%s prompt_tokens=%d output_tokens=%s finish=%s seconds=%.3f",
                run.request_id,
                safe_name,
                run.request.prompt_tokens,
                ",".join(map(str, run.counts)),
                ",".join(run.reasons),
                time.perf_counter() - run.started,
            )

    return close
