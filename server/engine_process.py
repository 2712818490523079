"""The engine's process as its parent sees it."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from runtime.black_box import PulseReader, box_path
from runtime.config import EngineConfig
from runtime.limits import EngineLimits
from server.errors import StartError
from server.tether import tethered
from server.watchdog import TICK_SECONDS, Silence

ENGINE_COMMAND = (sys.executable, "-m", "runtime.engine")


class _Ready(msgspec.Struct):
    ready: bool
    limits: EngineLimits | None = None
    summary: list[str] = []
    error: str = ""


class EngineProcess:
    """One running engine. Its standard input stays open for as long as it may live.

    Attributes:
        summary: Lines for the operator.
        task: What it does, for the operator.
        hung: Seconds without a sign of life after which it was killed; 0 while it was not.
        capacity: Tokens that its KV cache has room for; 0 where that is not known.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self.hung = 0.0
        self._guard: asyncio.Task[None] | None = None  # kept, so that it is not collected
        self.summary: list[str] = []
        self.task = ""
        self.capacity = 0

    @classmethod
    async def start(cls, config: EngineConfig, command: Sequence[str] = ENGINE_COMMAND) -> EngineProcess:
        """Start an engine and wait until it is ready; no engine is left behind on failure or cancellation.

        Raises:
            StartError: It refused, with its reason, or died.
        """
        process = await asyncio.create_subprocess_exec(
            *tethered([*command]), stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        engine = cls(process)
        try:
            ready = await engine._handshake(config)
        except BaseException:
            await engine.kill()
            raise
        engine._guard = asyncio.create_task(engine._watch(box_path(config.socket)))
        engine.summary = ready.summary
        engine.task = "scores" if ready.limits is not None and ready.limits.scores else "text generation"
        engine.capacity = ready.limits.max_total_tokens if ready.limits is not None else 0
        return engine

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return await self._process.wait()

    def drain(self) -> None:
        """Have it refuse new requests and finish the running ones."""
        self._signal(signal.SIGUSR1)

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109 - the grace period
        """Have it exit now; kill it after ``timeout`` seconds."""
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End it without ado."""
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _watch(self, box: Path) -> None:
        """Kill it when it shows no sign of life for too long: whoever waits for its end does the rest."""
        try:
            pulse = PulseReader(box)
        except OSError:
            return
        silence = Silence()
        while self._process.returncode is None:
            await asyncio.sleep(TICK_SECONDS)
            if silence.tick(pulse.read()):
                self.hung = silence.seconds
                self._signal(signal.SIGKILL)
                return

    async def _handshake(self, config: EngineConfig) -> _Ready:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the engine was started without pipes")
        with suppress(ConnectionError):
            stdin.write(msgspec.json.encode(config) + b"\n")
            await stdin.drain()
        line = await stdout.readline()
        if not line:
            status = await self._process.wait()
            raise StartError(f"the engine ended with status {status} before it was ready")
        try:
            ready = msgspec.json.decode(line, type=_Ready)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise StartError("the engine's ready line cannot be read") from None
        if not ready.ready:
            raise StartError(ready.error)
        return ready
