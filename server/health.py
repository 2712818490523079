"""Whether the engine does its work."""

from __future__ import annotations

import asyncio

from runtime.request import SamplingParams
from server.engine_port import EnginePort
from server.environment import RequestRules
from server.errors import ClientGoneError, RefusedError, ServerError

_PROBE = [0]


class EngineHealth:
    """Answers for ``/health``.

    An engine that generates is healthy while its loop turns. A reward engine has to give scores: it is asked for one
    where none has come for a while.

    Args:
        client: The engine.
        rules: Give the time that a healthy engine has.
    """

    def __init__(self, client: EnginePort, rules: RequestRules) -> None:
        self._client = client
        self._rules = rules
        self._probe: asyncio.Task[bool] | None = None

    async def healthy(self) -> bool:
        """The verdict."""
        if self._rules.force_unhealthy:
            return False
        seconds = self._rules.health_timeout
        if not self._client.scores:
            return await self._client.alive(seconds)
        if self._client.productive(seconds):
            return True
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self._scores(seconds))
        # NOTE: everybody who asks meanwhile waits for the same probe, whoever of them leaves.
        return await asyncio.shield(self._probe)

    async def _scores(self, timeout: float) -> bool:  # noqa: ASYNC109 - a deadline for one answer
        """Whether the engine scores one token within ``timeout`` seconds, or is too busy with others' for it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            stream = self._client.submit(_PROBE, SamplingParams(max_new_tokens=1), counted=False)
            try:
                async with asyncio.timeout(timeout):
                    outputs = await stream.take()
            finally:
                stream.cancel(ClientGoneError())
        except TimeoutError:
            return self._client.productive(loop.time() - began)
        except RefusedError:
            return True
        except ServerError:
            return False
        return bool(outputs) and outputs[0].score is not None
