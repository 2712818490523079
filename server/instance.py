"""One generation of a server: an engine and the gunicorn in front of it, which live and end together."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any

import msgspec

from server.config import write_config
from server.engine_keeper import EngineKeeper
from server.errors import StartError
from server.http_process import HttpProcess
from server.operator import complain
from server.phase import Phase, write_phase
from server.run_directory import ENGINE_SOCKET, METRICS_DIRECTORY
from server.supervisor_config import SupervisorConfig
from server.tasks import cancel

STOP_SECONDS = 5.0
"""Time that a process gets to exit once it has nothing left to do."""


class Instance:
    """A bundle that is served, or about to be, or was.

    Args:
        number: Which generation of the server this is, from 1.
        directory: The server's private directory.
        config: What to run.
        key_ring: File of the keys that let requests in; empty lets everybody in.
        restarts: Engines that earlier generations had to replace.

    Attributes:
        phase: What its workers were told last.
        keeper: Has its engine.
    """

    def __init__(
        self, number: int, directory: Path, config: SupervisorConfig, key_ring: str = "", restarts: int = 0
    ) -> None:
        self.number, self.config = number, config
        self.phase = Phase.SERVING
        self._metrics = directory / METRICS_DIRECTORY
        self._directory = directory / f"generation-{number}"
        path = str(self._directory / ENGINE_SOCKET)
        self._worker = replace(config.worker, engine_socket=path, key_ring=key_ring)
        limits = tuple(tenant.limits for tenant in config.tenants)
        engine = msgspec.structs.replace(config.engine, socket=path, tenants=limits)
        self.keeper = EngineKeeper(engine, config.engine_command, config.engine_failure, restarts)
        self._http: HttpProcess | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self, listener: Callable[[], socket]) -> None:
        """Start the engine, then gunicorn; nothing is left of either on failure or cancellation.

        Args:
            listener: Gives the listening socket; called once the engine is ready.

        Raises:
            StartError: One of them does not start.
        """
        try:
            self._directory.mkdir()
            write_config(self._directory, self._worker)
            self.announce(Phase.SERVING)
            engine = await self.keeper.start()
            self._keeping = asyncio.create_task(self.keeper.keep(engine))
            self._http = await self._start_http(self._keeping, listener())
        except BaseException:
            await self.kill()
            raise

    def describe(self) -> dict[str, Any]:
        """What an operator may want to know."""
        engine = self.keeper.engine
        return {
            "generation": self.number,
            "bundle": self.config.worker.bundle,
            "model_name": self.config.worker.model_name,
            "engine_pid": engine.pid if engine is not None else None,
            "engine_restarts": self.keeper.restarts,
            "kv_capacity_tokens": engine.capacity if engine is not None else None,
            "http_pid": self._http.pid if self._http is not None else None,
        }

    def watch(self, on_loss: Callable[[Instance], None]) -> None:
        """Have ``on_loss`` called when this cannot serve any more, and the operator told why."""
        self._watching = asyncio.create_task(self._watch())
        self._watching.add_done_callback(lambda task: None if task.cancelled() else on_loss(self))

    def announce(self, phase: Phase) -> None:
        """Tell the workers what is in store for them."""
        self.phase = phase
        write_phase(self._directory, phase)

    async def finish(self, phase: Phase, seconds: float) -> None:
        """Have the running requests finish, then end both processes.

        Args:
            phase: ``RETIRING`` serves the connections that there are; ``ENDING`` refuses new requests.
            seconds: What requests get; the rest fails with an error of its API.
        """
        await self._unwatch()
        if self._http is None:
            return
        self.announce(phase)
        engine = self.keeper.engine
        if phase is Phase.ENDING and engine is not None:
            await self._keep_no_longer()
            engine.drain()
        self._http.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._http.wait()
        # Whatever is still running fails now, which ends its answers and lets gunicorn finish.
        self.announce(Phase.ENDING)
        await self._keep_no_longer()
        if self.keeper.engine is not None:
            await self.keeper.engine.stop(STOP_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._http.wait()

    async def kill(self) -> None:
        """End everything without ado, and remove what it had on disk."""
        await self._unwatch()
        await self._keep_no_longer()
        for process in (self._http, self.keeper.engine):
            if process is not None:
                await process.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _start_http(self, keeping: asyncio.Task[None], listener: socket) -> HttpProcess:
        starting = asyncio.create_task(HttpProcess.start(self._directory, self._metrics, listener, self.config.http))
        try:
            await asyncio.wait((starting, keeping), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                raise StartError("the engine ended while the HTTP server was starting")
            return starting.result()
        finally:
            await cancel(starting)

    async def _watch(self) -> None:
        if self._http is None or self._keeping is None:
            raise RuntimeError("a generation is watched before it has started")
        http_ended = asyncio.create_task(self._http.wait())
        try:
            await asyncio.wait((self._keeping, http_ended), return_when=asyncio.FIRST_COMPLETED)
            if http_ended.done():
                complain(f"the HTTP server ended with status {http_ended.result()}")
        finally:
            await cancel(http_ended)

    async def _unwatch(self) -> None:
        if self._watching is not None:
            await cancel(self._watching)

    async def _keep_no_longer(self) -> None:
        if self._keeping is not None:
            await cancel(self._keeping)
