"""The parent of the engine process and of gunicorn: starts them in order, replaces a dead engine, stops both."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import socket
from typing import Literal

import msgspec

from runtime.config import EngineConfig
from server.access.key_ring import publish
from server.access.key_source import KeySource
from server.access.tenant import Tenant
from server.config import HttpConfig, WorkerConfig, write_config
from server.engine_process import ENGINE_COMMAND, EngineProcess
from server.errors import StartError
from server.http_process import HttpProcess
from server.listener import allow_many_connections, listen, reserve, url
from server.logs import announce
from server.restarts import RestartPolicy
from server.run_directory import ENGINE_SOCKET, run_directory

QUICK_DRAIN_SECONDS = 5.0
"""Time that running requests get after SIGINT."""

STOP_SECONDS = 5.0
"""Time that a process gets to exit once it has nothing left to do."""

FAILED = 1
CANNOT_START = 2

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_QUICK_SIGNALS = (signal.SIGINT, signal.SIGQUIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorConfig:
    """What to run.

    Attributes:
        engine: The engine's configuration; its socket is filled in here.
        worker: The HTTP workers' configuration; its socket is filled in here.
        http: gunicorn's configuration; its descriptors are filled in here.
        engine_failure: Whether a dead engine is replaced or ends the server.
        engine_command: Program of the engine.
        tenants: Who has a key; with none, everybody is let in.
        keys: To read them again from.
    """

    host: str
    port: int
    engine: EngineConfig
    worker: WorkerConfig
    http: HttpConfig
    engine_failure: Literal["restart", "exit"] = "restart"
    engine_command: Sequence[str] = ENGINE_COMMAND
    tenants: tuple[Tenant, ...] = ()
    keys: KeySource = field(default_factory=KeySource)


class Supervisor:
    """One server, from nothing running to nothing running."""

    def __init__(self, config: SupervisorConfig) -> None:
        self._config = config
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._engine: EngineProcess | None = None
        self._http: HttpProcess | None = None

    async def run(self) -> int:
        """Serve until a signal or a failure.

        Returns:
            Exit status: 0 after a signal, 1 after a failure, 2 when the server cannot start, 128 and its number
            after a second signal.
        """
        config = self._config
        allow_many_connections()
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._signals.put_nowait, number)
        try:
            with (
                run_directory() as directory,
                reserve(config.host, config.port, config.worker.stall_seconds) as listener,
            ):
                return await self._supervise(directory, listener)
        except StartError as error:
            _say(f"error: {error}", sys.stderr)
            return CANNOT_START

    async def _supervise(self, directory: Path, listener: socket) -> int:
        signalled = asyncio.create_task(self._signals.get())
        serving = asyncio.create_task(self._serve(directory, listener))
        try:
            await asyncio.wait((signalled, serving), return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                return serving.result()
            await _cancel(serving)
            return await self._stop(signalled.result())
        finally:
            await _cancel(signalled)
            for process in (self._http, self._engine):
                if process is not None:
                    await process.kill()

    async def _serve(self, directory: Path, listener: socket) -> int:
        """Start everything and watch it; returns only with a failure."""
        config = self._config
        path = str(directory / ENGINE_SOCKET)
        engine_config = msgspec.structs.replace(config.engine, socket=path)
        ring = str(publish(config.tenants, directory)) if config.tenants else ""
        write_config(directory, replace(config.worker, engine_socket=path, key_ring=ring))
        self._engine = await EngineProcess.start(engine_config, config.engine_command)
        for line in self._engine.summary:
            _say(line)
        listen(listener)
        self._http = await HttpProcess.start(directory, listener, config.http)
        _say(f"serving {config.worker.model_name} on {url(listener, config.http.tls)}: {self._engine.task}")
        # NOTE: the port closes when gunicorn closes it, so no other process may hold it.
        listener.close()
        return await self._watch(self._engine, engine_config, self._http)

    async def _watch(self, engine: EngineProcess, engine_config: EngineConfig, http: HttpProcess) -> int:
        engine_lost = asyncio.create_task(self._keep_engine(engine, engine_config))
        http_ended = asyncio.create_task(http.wait())
        try:
            await asyncio.wait((engine_lost, http_ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(engine_lost)
            await _cancel(http_ended)
        if not http_ended.cancelled():
            _say(f"error: the HTTP server ended with status {http_ended.result()}", sys.stderr)
        return FAILED

    async def _keep_engine(self, engine: EngineProcess, config: EngineConfig) -> None:
        """Replace the engine whenever it dies; returns when there is none to be had."""
        policy = RestartPolicy()
        loop = asyncio.get_running_loop()
        while True:
            status = await engine.wait()
            hung = f" after it had hung for {engine.hung:g} s" if engine.hung else ""
            _say(f"error: the engine ended with status {status}{hung}", sys.stderr)
            if self._config.engine_failure == "exit":
                return
            started = None
            delay: float | None = policy.died(loop.time())
            while started is None:
                if delay is None:
                    _say("error: no engine can be started: giving up", sys.stderr)
                    return
                await asyncio.sleep(delay)
                successor = msgspec.structs.replace(config, restarts=config.restarts + 1)
                try:
                    started = await EngineProcess.start(successor, self._config.engine_command)
                except StartError as error:
                    _say(f"error: {error}", sys.stderr)
                    delay = policy.refused(loop.time())
            _say("the engine is back")
            self._engine, engine, config = started, started, successor

    async def _stop(self, number: signal.Signals) -> int:
        """Finish the running requests, then end both processes; a second signal ends them at once."""
        seconds = self._config.engine.drain_seconds
        if number in _QUICK_SIGNALS:
            seconds = min(seconds, QUICK_DRAIN_SECONDS)
        _say(f"{number.name}: stopping; running requests have {seconds:g} s to finish")
        finishing = asyncio.create_task(self._finish(seconds))
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait((finishing, again), return_when=asyncio.FIRST_COMPLETED)
        hurried = not finishing.done()
        await _cancel(finishing)
        await _cancel(again)
        return 128 + again.result() if hurried else 0

    async def _finish(self, seconds: float) -> None:
        if self._engine is None or self._http is None:
            return
        self._engine.drain()
        self._http.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._http.wait()
        # Whatever is still running fails now, which ends its answers and lets gunicorn finish.
        await self._engine.stop(STOP_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._http.wait()


async def _cancel(task: asyncio.Task[object]) -> None:
    """Cancel ``task`` unless it is done, and wait for it; its own failure is for who asks for its result."""
    task.cancel()
    await asyncio.wait((task,))


def _say(line: str, file: object = None) -> None:
    announce(line, error=file is not None)
