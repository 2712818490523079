"""The generations of one server: the one that serves, and those before it that still finish what they began."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from socket import socket

from server.access.key_ring import publish
from server.errors import StartError
from server.instance import Instance
from server.listener import listen
from server.operator import say, warn
from server.phase import Phase
from server.replan import replan
from server.supervisor_config import SupervisorConfig
from server.tasks import cancel

MAX_RETIRING = 2
"""Generations that may be finishing when a swap begins: each of them holds an engine's memory."""


class Generations:
    """All that is running of a server.

    Args:
        directory: The server's private directory.
        listener: The reserved socket. It is this class's to close: all generations share it, and the port is open
            for as long as anybody holds it.
        config: What to run first.
        on_loss: Called when the current generation cannot serve any more.

    Attributes:
        current: Who serves; ``None`` until somebody does.
        retiring: Who does no more, oldest first.
        swapping: A swap is under way.
    """

    def __init__(
        self, directory: Path, listener: socket, config: SupervisorConfig, on_loss: Callable[[], None]
    ) -> None:
        self._directory, self._listener, self._config, self._on_loss = directory, listener, config, on_loss
        self._number = 0
        self._retirements: dict[Instance, asyncio.Task[None]] = {}
        self.current: Instance | None = None
        self.swapping = False

    @property
    def retiring(self) -> list[Instance]:
        """See the class."""
        return [*self._retirements]

    async def start(self) -> Instance:
        """Start the first.

        Raises:
            StartError: It does not start.
        """
        return await self._start(self._config)

    async def swap(self, spec: str | None) -> Instance:
        """Put a new generation in the place of the current one, which finishes what it has.

        Args:
            spec: What to serve; ``None`` is what is served, as it is now.

        Returns:
            The new one.

        Raises:
            StartError: It cannot be had; the current one goes on.
        """
        old = self.current
        if self.swapping or old is None:
            raise StartError("another swap is under way" if self.swapping else "the server is still starting")
        if len(self._retirements) >= MAX_RETIRING:
            raise StartError(f"{len(self._retirements)} earlier generations are still finishing their requests")
        self.swapping = True
        try:
            config = await replan(self._config.arguments, spec or old.config.spec)
            keys = self._config.keys
            new = await self._start(replace(config, tenants=keys.read(), keys=keys))
        finally:
            self.swapping = False
        if old.phase is not Phase.SERVING:
            new.announce(old.phase)
        _warn_of_less_room(old, new)
        self._retirements[old] = asyncio.create_task(self._retire(old))
        return new

    def announce(self, phase: Phase) -> None:
        """Tell the workers of the current generation."""
        if self.current is not None:
            self.current.announce(phase)

    async def finish(self, seconds: float) -> None:
        """Close the port and end everything, the running requests within ``seconds``."""
        self._listener.close()
        retiring = self.retiring
        for task in [*self._retirements.values()]:
            await cancel(task)
        running = [*retiring, *([self.current] if self.current is not None else [])]
        await asyncio.gather(*(instance.finish(Phase.ENDING, seconds) for instance in running))

    async def kill(self) -> None:
        """End everything without ado."""
        for task in [*self._retirements.values()]:
            await cancel(task)
        for instance in (*self._retirements, self.current):
            if instance is not None:
                await instance.kill()

    async def _start(self, config: SupervisorConfig) -> Instance:
        self._number += 1
        # NOTE: one ring for all generations: a key that is taken back is no key anywhere.
        ring = str(publish(config.tenants, self._directory)) if config.tenants else ""
        restarts = self.current.keeper.restarts if self.current is not None else 0
        instance = Instance(self._number, self._directory, config, ring, restarts)
        await instance.start(self._listen)
        self.current = instance
        instance.watch(self._lost)
        return instance

    def _listen(self) -> socket:
        if self.current is None:
            listen(self._listener)
        return self._listener

    def _lost(self, instance: Instance) -> None:
        if instance is self.current:
            self._on_loss()

    async def _retire(self, instance: Instance) -> None:
        seconds = self._config.swap_drain_seconds
        say(f"generation {instance.number} finishes its requests, for {seconds:g} s at most")
        await instance.finish(Phase.RETIRING, seconds)
        await instance.kill()
        del self._retirements[instance]
        say(f"generation {instance.number} has ended")


def _warn_of_less_room(old: Instance, new: Instance) -> None:
    before, after = (instance.keeper.engine for instance in (old, new))
    if before is not None and after is not None and after.capacity < before.capacity:
        warn(
            f"the new engine's KV cache has room for {after.capacity} tokens, the old one's had {before.capacity}: "
            f"memory was sized while both were loaded"
        )
