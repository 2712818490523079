"""An engine that is replaced whenever it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec

from runtime.config import EngineConfig
from server.engine_process import EngineProcess
from server.errors import StartError
from server.operator import complain, say
from server.restarts import RestartPolicy


class EngineKeeper:
    """Starts an engine and keeps one at the same endpoint.

    Args:
        config: The engine's configuration.
        command: Its program.
        failure: Whether a dead engine is replaced.
        restarts: Of earlier generations.

    Attributes:
        engine: The engine, dead or alive; ``None`` before the first.
        restarts: Engines that were started in place of dead ones, those of earlier generations too.
    """

    def __init__(
        self, config: EngineConfig, command: Sequence[str], failure: Literal["restart", "exit"], restarts: int = 0
    ) -> None:
        self._config, self._command, self._failure = config, command, failure
        self.engine: EngineProcess | None = None
        self.restarts = restarts

    async def start(self) -> EngineProcess:
        """Start the engine.

        Raises:
            StartError: It refused, with its reason, or died.
        """
        config = msgspec.structs.replace(self._config, restarts=self.restarts)
        self.engine = await EngineProcess.start(config, self._command)
        return self.engine

    async def keep(self, engine: EngineProcess) -> None:
        """Replace the engine whenever it dies; returns when there is none to be had."""
        policy = RestartPolicy()
        loop = asyncio.get_running_loop()
        while True:
            status = await engine.wait()
            hung = f" after it had hung for {engine.hung:g} s" if engine.hung else ""
            complain(f"the engine ended with status {status}{hung}")
            if self._failure == "exit":
                return
            started = None
            self.restarts += 1
            delay: float | None = policy.died(loop.time())
            while started is None:
                if delay is None:
                    complain("no engine can be started: giving up")
                    return
                await asyncio.sleep(delay)
                try:
                    started = await self.start()
                except StartError as error:
                    complain(str(error))
                    delay = policy.refused(loop.time())
            say("the engine is back")
            engine = started
