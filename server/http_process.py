"""gunicorn's process as its parent sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from socket import socket

from server.config import RUN_DIRECTORY_VARIABLE, HttpConfig, write_config
from server.errors import StartError
from server.tether import tethered

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:server.gunicorn_conf", "server.worker:create_app()"]


class HttpProcess:
    """gunicorn and its workers."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, directory: Path, metrics: Path, listener: socket, config: HttpConfig) -> HttpProcess:
        """Start gunicorn on ``listener`` and wait until a worker serves.

        Args:
            directory: The generation's private directory, with the workers' configuration and phase in it.
            metrics: Directory in which the workers of all generations count.
            listener: The listening socket; gunicorn gets a copy.
            config: gunicorn's settings; its descriptors are filled in here.

        Raises:
            StartError: gunicorn ended before any worker served.
        """
        ready, ready_for_workers = os.pipe()
        try:
            inherited = (listener.fileno(), ready_for_workers)
            write_config(directory, replace(config, listener=inherited[0], ready=inherited[1]))
            process = await asyncio.create_subprocess_exec(
                *tethered(COMMAND),
                env=_environment(directory, metrics),
                pass_fds=inherited,
                start_new_session=True,
            )
        finally:
            os.close(ready_for_workers)
        http = cls(process)
        try:
            await http._wait_until_ready(ready)
        except BaseException:
            await http.kill()
            raise
        return http

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return await self._process.wait()

    def drain(self) -> None:
        """Accept no more connections, finish what is being answered, exit."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def kill(self) -> None:
        """End master and workers without ado."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def _wait_until_ready(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        try:
            if not await reader.read(1):
                status = await self._process.wait()
                raise StartError(f"the HTTP server ended with status {status} before it was ready")
        finally:
            transport.close()


def _environment(directory: Path, metrics: Path) -> dict[str, str]:
    # NOTE: the user's gunicorn settings and socket-passing variables would override what is decided here.
    dropped = {"GUNICORN_CMD_ARGS", "GUNICORN_FD", "GUNICORN_PID", "LISTEN_FDS", "LISTEN_PID"}
    return {name: value for name, value in os.environ.items() if name not in dropped} | {
        RUN_DIRECTORY_VARIABLE: str(directory),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "TOKENIZERS_PARALLELISM": "false",
    }
