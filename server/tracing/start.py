"""Traces of one HTTP worker, from its start to its end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from server.tracing.settings import obstacle, wanted

if TYPE_CHECKING:
    from server.tracing.tracing import Tracing

logger = logging.getLogger("peregrine.tracing")


def start_tracing(environ: Mapping[str, str], model_name: str) -> Tracing | None:
    """Traces, if ``environ`` asks for them and they can be had; the supervisor has told the operator if not.

    Starts a thread: to be called after gunicorn's fork.

    Args:
        environ: The process's own environment, which OpenTelemetry's packages read too.
        model_name: What requests are for.
    """
    if not wanted(environ) or obstacle(environ):
        return None
    from server.tracing.tracing import Tracing

    try:
        return Tracing(model_name)
    except ValueError as error:
        logger.error("no traces: a variable of OpenTelemetry's cannot be used: %s", error)
        return None
