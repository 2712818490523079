"""The generations of one call are read together, and nothing of what they bring is lost."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from server.generation import Generation, TokenEvent
from server.openai.call import Call, Events


class OneToken:
    """A generation of one token, which comes when it is told so."""

    def __init__(self) -> None:
        self.done = False
        self.told = asyncio.Event()

    async def events(self) -> list[TokenEvent]:
        await self.told.wait()
        self.done = True
        return [TokenEvent(0, 7, "x", -1.0, False, 1, -1.0, "stop")]


async def read(call: Call) -> Events:
    events: Events = []
    while not call.done:
        events += await call.events()
    return events


@pytest.mark.parametrize("turns", range(6))
def test_what_ends_a_turn_of_the_loop_after_another_is_handed_out_too(turns: int) -> None:
    async def run() -> Events:
        first, second = OneToken(), OneToken()
        reading = asyncio.create_task(read(Call(cast("list[Generation]", [first, second]))))
        await asyncio.sleep(0)
        first.told.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        second.told.set()
        return await asyncio.wait_for(reading, 10)

    assert sorted(prompt for prompt, _ in asyncio.run(run())) == [0, 1]
