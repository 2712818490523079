"""The generations of one call: started together, read together, freed together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from server.errors import ServerError, UnavailableError
from server.generation import Generation, Generator, TokenEvent
from server.validation import ValidRequest

Events = list[tuple[int, TokenEvent]]
"""Tokens with the index of their prompt."""


class Call:
    """Running generations, one for each prompt. Always ``close`` it.

    Attributes:
        generations: In the order of the prompts.
    """

    def __init__(self, generations: Sequence[Generation]) -> None:
        self.generations = generations
        self._unread = list(range(len(generations)))
        self._reads: set[asyncio.Task[list[TokenEvent]]] = set()
        self._landed: list[tuple[int, asyncio.Task[list[TokenEvent]]]] = []
        self._wake = asyncio.Event()

    @classmethod
    def start(cls, generator: Generator, requests: Iterable[ValidRequest], seconds_before: float) -> Call:
        """Queue all of them in the engine.

        Raises:
            UnavailableError: The engine is not connected.
            TimeIsUpError: There is no time left for the call.
        """
        generations: list[Generation] = []
        try:
            for request in requests:
                generation = generator.start(request, seconds_before)
                generations.append(generation)
        except ServerError:
            cls(generations).close()
            raise
        return cls(generations)

    @property
    def done(self) -> bool:
        """Whether every output has ended, and ``events`` has handed all of it out."""
        # NOTE: a generation is done a turn of the loop before what its read brought has landed.
        return not self._reads and not self._landed and all(generation.done for generation in self.generations)

    async def events(self) -> Events:
        """Wait for tokens and return all there are; empty only when ``done``.

        Raises:
            ServerError: The engine refused, lost or failed one of the requests.
            ClientGoneError: ``cancel`` was called.
        """
        for index in self._unread:
            if not self.generations[index].done:
                task = asyncio.ensure_future(self.generations[index].events())
                task.add_done_callback(partial(self._land, index))
                self._reads.add(task)
        self._unread = []
        if not self._reads and not self._landed:
            return []
        await self._wake.wait()
        self._wake.clear()
        landed, self._landed = self._landed, []
        self._unread = [index for index, _ in landed]
        events = [(index, event) for index, task in landed for event in task.result()]
        for index, event in events:
            if event.error:
                raise self.generations[index].failure or UnavailableError(event.error)
        return events

    def cancel(self) -> None:
        """The client is gone."""
        for generation in self.generations:
            generation.cancel()

    def close(self) -> None:
        """Free what is still held and report the ends."""
        for task in [*self._reads]:
            task.cancel()
        for generation in self.generations:
            generation.close()

    def _land(self, index: int, task: asyncio.Task[list[TokenEvent]]) -> None:
        """Tokens of a prompt are there, or what became of them instead."""
        self._reads.discard(task)
        if not task.cancelled():
            # NOTE: this takes notice of a failure that nobody will ask for where another one has ended the call.
            task.exception()
            self._landed.append((index, task))
            self._wake.set()


def by_prompt_and_sample(events: Events) -> dict[tuple[int, int], list[TokenEvent]]:
    """The tokens of each output."""
    outputs: dict[tuple[int, int], list[TokenEvent]] = defaultdict(list)
    for prompt, event in events:
        outputs[prompt, event.sample].append(event)
    return outputs
