"""``/get_score``."""

from __future__ import annotations

import time

from falcon.asgi import Request, Response

from server.connection import SCOPE_KEY, Connection
from server.native_types import ScoreAnswer
from server.resources.base import Resource, answer
from server.resources.request_log import closer


class ScoreResource(Resource):
    """Scores of chats, from a reward model."""

    async def on_post(self, request: Request, response: Response) -> None:
        """Score the body's ``chat``, or each one of a list."""
        services, arrived = self._services(), time.perf_counter()
        requests, listed = await services.score_parser.parse(await self._body(request))
        seconds = time.perf_counter() - arrived
        services.metrics.validated(seconds)
        connection: Connection = request.scope[SCOPE_KEY]
        connection.check()
        call = services.scorer.start(requests, seconds)
        connection.hold(call.cancel, closer(call.scores, request))
        scores = await call.wait()
        lengths = [len(valid.prompt) for valid in requests]
        content = ScoreAnswer(score=scores if listed else scores[0], prompt_tokens=lengths if listed else lengths[0])
        answer(response, content)
