"""``/ui/state``: what the page shows of the server; a hundredth of ``/metrics``' work and size."""

from __future__ import annotations

import time

import msgspec
from falcon.asgi import Request, Response

from server.resources.base import Resource, answer


class ServerState(msgspec.Struct, kw_only=True):
    """Model and load. ``*_total`` count since the engine started; ``seconds`` is a clock to divide them by.

    Attributes:
        chat: The model has a chat template.
        alternatives: ``top_logprobs`` can be had.
        scores: It is a reward model.
    """

    model_name: str
    chat: bool
    alternatives: bool
    scores: bool
    max_request_tokens: int
    capacity_tokens: int
    used_tokens: int
    running: int
    waiting: int
    generated_tokens_total: int
    prefix_queries_total: int
    prefix_hits_total: int
    seconds: float


class StateResource(Resource):
    """``/ui/state``."""

    async def on_get(self, request: Request, response: Response) -> None:  # noqa: ARG002
        """Answer."""
        services = self._services()
        limits, stats = services.client.limits, await services.client.stats()
        state = ServerState(
            model_name=services.config.model_name,
            chat=not services.template.problem,
            alternatives=limits.host_logits,
            scores=limits.scores,
            max_request_tokens=limits.max_request_tokens,
            capacity_tokens=stats.capacity_tokens,
            used_tokens=stats.used_tokens,
            running=stats.running,
            waiting=stats.waiting,
            generated_tokens_total=stats.generated_tokens_total,
            prefix_queries_total=stats.prefix_queries_total,
            prefix_hits_total=stats.prefix_hits_total,
            seconds=time.monotonic(),
        )
        response.cache_control = ["no-store"]
        answer(response, state)
