"""What ingresses and engines of a fleet tell each other."""

from __future__ import annotations

import math
import time

import pytest

from runtime.messages import Abort, AddRequest, StepOutputs, TokenOutput
from runtime.request import SamplingParams
from runtime.scheduler.prefix_digest import prompt_digests
from runtime.stats import EngineStats
from server.errors import (
    InvalidRequestError,
    QueueFullError,
    RefusedError,
    ServerError,
    TimeIsUpError,
    UnavailableError,
)
from server.fleet.totals import total
from server.fleet.wire import (
    Failed,
    context_of,
    decode_demand,
    decode_reply,
    decode_request,
    demand_of,
    encode,
    failed,
)

REQUEST = AddRequest(3, [*range(40)], SamplingParams(max_new_tokens=8), 2, "salt", "somebody", 4, 5.0)


def test_a_request_brings_its_ended_samples_and_its_context() -> None:
    request, ended = decode_request(encode([REQUEST, Abort(3, 1)]))
    assert request == REQUEST
    assert ended == [1]
    context = context_of(request)
    assert (context.tenant, context.salt, context.priority) == ("somebody", "salt", 4)
    assert 4 < context.deadline - time.monotonic() <= 5
    assert context_of(AddRequest(1, [1], SamplingParams())).deadline == math.inf


def test_a_router_sees_what_a_request_may_need_and_its_full_blocks() -> None:
    demand = decode_demand(demand_of([REQUEST], 16))
    assert demand.tokens == 40 + 2 * 8
    assert demand.prefixes == prompt_digests("salt", range(40), 16)
    assert len(demand.prefixes) == 2


def test_outputs_arrive_as_they_were_sent() -> None:
    outputs = StepOutputs([TokenOutput(3, 1, 17, -0.5)])
    assert decode_reply(encode(outputs)) == outputs


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("too long", "request_too_large"),
        TimeIsUpError("late"),
        QueueFullError("full", 7),
        RefusedError("stopping", 2),
        UnavailableError("gone", 5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_arrive_as_what_they_were(error: ServerError) -> None:
    reply = decode_reply(encode(failed(error)))
    assert isinstance(reply, Failed)
    found = reply.error()
    assert (type(found), vars(found)) == (type(error), vars(error))


def test_a_fleet_has_the_sum_of_its_engines() -> None:
    both = total([EngineStats(running=1, capacity_tokens=10, pid=5), EngineStats(running=2, capacity_tokens=10, pid=6)])
    assert (both.running, both.capacity_tokens, both.pid) == (3, 20, 0)
