"""Between what clients know and what the engine is told."""

from __future__ import annotations

import math
import time

from runtime.messages import TIME_IS_UP, AddRequest, Rejected, RejectReason
from runtime.request import SamplingParams
from server.errors import InvalidRequestError, QueueFullError, RefusedError, ServerError, TimeIsUpError
from server.request_context import current


def add_request(request_id: int, prompt: list[int], sampling: SamplingParams, samples: int) -> AddRequest:
    """What the engine is told of a request, with what the HTTP request brought besides its body.

    Raises:
        TimeIsUpError: There is no time left for it.
    """
    context = current()
    seconds = 0.0
    if context.deadline < math.inf:
        seconds = context.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeIsUpError(TIME_IS_UP)
    return AddRequest(request_id, prompt, sampling, samples, context.salt, context.tenant, context.priority, seconds)


def refusal(rejected: Rejected) -> ServerError:
    """What a client is told of a request that the engine does not take."""
    if rejected.reason is RejectReason.INVALID:
        return InvalidRequestError(rejected.message, "request_too_large")
    if rejected.reason is RejectReason.CONSTRAINT:
        return InvalidRequestError(rejected.message, "invalid_constraint")
    if rejected.reason is RejectReason.EXPIRED:
        return TimeIsUpError(rejected.message)
    if rejected.reason is RejectReason.QUARANTINED:
        return InvalidRequestError(rejected.message, "request_quarantined")
    kind = QueueFullError if rejected.reason is RejectReason.QUEUE_FULL else RefusedError
    return kind(rejected.message, max(1, rejected.retry_after))
