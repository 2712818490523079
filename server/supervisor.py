"""The parent of everything: starts a generation, has it replaced when asked, ends all when told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from socket import socket
from typing import Any

from server.control import control_socket
from server.control_protocol import ControlAnswer, ControlRequest
from server.errors import StartError
from server.generations import Generations
from server.instance import Instance
from server.listener import allow_many_connections, reserve, url
from server.operator import complain, say
from server.phase import Phase
from server.run_directory import CONTROL_SOCKET, run_directory
from server.service_manager import ServiceManager
from server.supervisor_config import SupervisorConfig
from server.tasks import cancel

QUICK_DRAIN_SECONDS = 5.0
"""Time that running requests get after SIGINT."""

FAILED = 1
CANNOT_START = 2

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_QUICK_SIGNALS = (signal.SIGINT, signal.SIGQUIT)


class Supervisor:
    """One server, from nothing running to nothing running."""

    def __init__(self, config: SupervisorConfig) -> None:
        self._config = config
        self._manager = ServiceManager()
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._lost = asyncio.Event()
        self._generations: Generations | None = None
        self._swap: asyncio.Task[ControlAnswer] | None = None
        self._url = ""
        self._started = time.monotonic()

    async def run(self) -> int:
        """Serve until a signal or a failure.

        Returns:
            Exit status: 0 after a signal, 1 after a failure, 2 when the server cannot start, 128 and its number
            after a second signal.
        """
        config = self._config
        allow_many_connections()
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        watchdog = asyncio.create_task(self._manager.keep_watchdog_quiet())
        try:
            with (
                run_directory() as directory,
                reserve(config.host, config.port, config.worker.stall_seconds) as listener,
            ):
                path = Path(config.control_socket or directory / CONTROL_SOCKET)
                async with control_socket(path, self._obey):
                    return await self._supervise(directory, listener)
        except StartError as error:
            complain(str(error))
            return CANNOT_START
        finally:
            await cancel(watchdog)

    async def _supervise(self, directory: Path, listener: socket) -> int:
        self._generations = generations = Generations(directory, listener, self._config, self._lost.set)
        signalled = asyncio.create_task(self._signals.get())
        serving = asyncio.create_task(self._serve(generations, listener))
        try:
            await asyncio.wait((signalled, serving), return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                return serving.result()
            await cancel(serving)
            return await self._stop(generations, signalled.result())
        finally:
            await cancel(signalled)
            await self._give_up_swap()
            await generations.kill()

    async def _serve(self, generations: Generations, listener: socket) -> int:
        """Start and watch; returns only with a failure."""
        instance = await generations.start()
        self._url = url(listener, self._config.http.tls)
        self._greet(instance)
        await self._lost.wait()
        return FAILED

    def _greet(self, instance: Instance) -> None:
        engine = instance.keeper.engine
        for line in engine.summary if engine is not None else ():
            say(line)
        told = f"serving {instance.config.worker.model_name} on {self._url}"
        say(f"{told}: {engine.task if engine is not None else ''}")
        self._manager.ready(f"{told}, generation {instance.number}")

    async def _stop(self, generations: Generations, number: signal.Signals) -> int:
        """Finish the running requests, then end everything; a second signal ends it at once."""
        self._manager.stopping()
        await self._give_up_swap()
        finishing = asyncio.create_task(self._finish(generations, number))
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait((finishing, again), return_when=asyncio.FIRST_COMPLETED)
        hurried = not finishing.done()
        await cancel(finishing)
        await cancel(again)
        return 128 + again.result() if hurried else 0

    async def _finish(self, generations: Generations, number: signal.Signals) -> None:
        config, seconds = self._config, self._config.engine.drain_seconds
        current = generations.current
        if number in _QUICK_SIGNALS:
            seconds = min(seconds, QUICK_DRAIN_SECONDS)
        elif config.drain_delay and current is not None and current.phase is Phase.SERVING:
            say(f"{number.name}: not ready any more; the port closes in {config.drain_delay:g} s")
            generations.announce(Phase.LAME_DUCK)
            await asyncio.sleep(config.drain_delay)
        say(f"{number.name}: stopping; running requests have {seconds:g} s to finish")
        await generations.finish(seconds)

    def _on_hangup(self) -> None:
        say("SIGHUP: swapping")
        self._begin_swap(None).add_done_callback(_complain_of_failure)

    def _begin_swap(self, spec: str | None) -> asyncio.Task[ControlAnswer]:
        swap = asyncio.create_task(self._swap_to(spec))
        if self._swap is None or self._swap.done():
            self._swap = swap
        return swap

    async def _swap_to(self, spec: str | None) -> ControlAnswer:
        if self._generations is None or not self._url:
            return ControlAnswer(error="the server is still starting")
        self._manager.reloading()
        try:
            instance = await self._generations.swap(spec)
        except StartError as failure:
            self._manager.ready("the last swap failed; the old bundle goes on serving")
            return ControlAnswer(error=f"no swap, the old bundle goes on serving: {failure}")
        self._greet(instance)
        return ControlAnswer(message=f"generation {instance.number} serves {instance.config.worker.bundle}")

    async def _give_up_swap(self) -> None:
        if self._swap is not None:
            await cancel(self._swap)

    async def _obey(self, request: ControlRequest) -> ControlAnswer:
        if request.command == "status":
            return ControlAnswer(status=self._status())
        if request.command == "stop":
            self._signals.put_nowait(signal.SIGTERM)
            return ControlAnswer(message="stopping")
        if self._generations is None or self._generations.current is None:
            return ControlAnswer(error="the server is still starting")
        if request.command == "swap":
            # NOTE: the swap goes on, whoever waits for it.
            return await asyncio.shield(self._begin_swap(request.spec))
        draining = request.command == "drain"
        self._generations.announce(Phase.LAME_DUCK if draining else Phase.SERVING)
        return ControlAnswer(message="not ready any more" if draining else "ready")

    def _status(self) -> dict[str, Any]:
        generations = self._generations
        current = generations.current if generations is not None else None
        return {
            "pid": os.getpid(),
            "seconds": round(time.monotonic() - self._started, 1),
            "url": self._url,
            "state": current.phase.name.lower() if current is not None else "starting",
            "swapping": generations is not None and generations.swapping,
            "serving": current.describe() if current is not None else None,
            "retiring": [instance.describe() for instance in generations.retiring] if generations is not None else [],
        }


def _complain_of_failure(swap: asyncio.Task[ControlAnswer]) -> None:
    if not swap.cancelled() and swap.result().error:
        complain(f"SIGHUP: {swap.result().error}")
