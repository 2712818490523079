"""What goes between an ingress and a replica, as bytes: Ray carries them without looking inside."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal

import msgspec

from runtime.limits import EngineLimits
from runtime.messages import Abort, AddRequest, StepOutputs
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
from server.fleet.report import split_digests
from server.fleet.routing import Demand
from server.request_context import RequestContext

LOST_RETRY_SECONDS = 5
"""Told to clients whose engine was lost: about what another one takes to start."""


class Failed(msgspec.Struct, array_like=True, tag=100):
    """A request's last message where it has not been done.

    Attributes:
        kind: What the engine said; ``lost`` is that it has gone, and worth another engine.
        message: For the client.
        retry_after: In whole seconds.
        error_code: With ``invalid``.
    """

    kind: Literal["invalid", "expired", "queue_full", "refused", "lost"]
    message: str
    retry_after: int = 0
    error_code: str = ""

    def error(self) -> ServerError:
        """As the single server would have it."""
        match self.kind:
            case "invalid":
                return InvalidRequestError(self.message, self.error_code)
            case "expired":
                return TimeIsUpError(self.message)
            case "queue_full":
                return QueueFullError(self.message, self.retry_after)
            case "refused":
                return RefusedError(self.message, self.retry_after)
            case "lost":
                return UnavailableError(self.message, self.retry_after)


class ReplicaState(msgspec.Struct, frozen=True):
    """What a replica says of itself.

    Attributes:
        replica: Serve's name of it.
        limits: What its engine can take.
        stats: Its engine's load and counters.
    """

    replica: str
    limits: EngineLimits
    stats: EngineStats


_requests: msgspec.msgpack.Decoder[list[AddRequest | Abort]] = msgspec.msgpack.Decoder(list[AddRequest | Abort])
_replies: msgspec.msgpack.Decoder[StepOutputs | Failed] = msgspec.msgpack.Decoder(StepOutputs | Failed)
_states = msgspec.msgpack.Decoder(ReplicaState)
_encoder = msgspec.msgpack.Encoder()


def encode(message: Sequence[AddRequest | Abort] | StepOutputs | Failed | ReplicaState) -> bytes:
    """A message's bytes; those of a request are as ``ReplayedStream.messages`` has them."""
    return _encoder.encode(message)


def decode_request(frame: bytes) -> tuple[AddRequest, list[int]]:
    """A request, and its samples that have ended already."""
    messages = _requests.decode(frame)
    return _request_of(messages), [message.sample for message in messages if isinstance(message, Abort)]


def decode_reply(frame: bytes) -> StepOutputs | Failed:
    """What came of one."""
    return _replies.decode(frame)


def decode_state(frame: bytes) -> ReplicaState:
    """A replica's state."""
    return _states.decode(frame)


def demand_of(messages: Sequence[AddRequest | Abort], block_size: int) -> tuple[int, bytes]:
    """What ``decode_demand`` takes: plain values, because routers get arguments as they are."""
    request = _request_of(messages)
    tokens = len(request.prompt) + request.samples * request.sampling.max_new_tokens
    return tokens, b"".join(prompt_digests(request.salt, request.prompt, block_size))


def decode_demand(demand: tuple[int, bytes]) -> Demand:
    """A request's demand."""
    tokens, digests = demand
    return Demand(tokens, split_digests(digests))


def _request_of(messages: Sequence[AddRequest | Abort]) -> AddRequest:
    (request,) = (message for message in messages if isinstance(message, AddRequest))
    return request


def failed(error: ServerError) -> Failed:
    """``error`` for the ingress."""
    match error:
        case InvalidRequestError():
            return Failed("invalid", error.message, error_code=error.error_code)
        case TimeIsUpError():
            return Failed("expired", error.message)
        case QueueFullError():
            return Failed("queue_full", error.message, error.retry_after)
        case RefusedError():
            return Failed("refused", error.message, error.retry_after)
        case _:
            return Failed("lost", error.message, LOST_RETRY_SECONDS)


def context_of(request: AddRequest) -> RequestContext:
    """What an HTTP request brought besides its body, on this machine's clock."""
    deadline = time.monotonic() + request.seconds_left if request.seconds_left else math.inf
    return RequestContext(tenant=request.tenant, salt=request.salt, priority=request.priority, deadline=deadline)
