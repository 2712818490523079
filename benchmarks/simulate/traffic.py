"""Seeded traffic of the shapes that have been published for such servers.

Lengths are log-normal, as those of public conversation and code traces are; their medians and spreads are rounded
figures of these. Arrivals are a Poisson process, or one whose rate jumps between quiet and busy spells.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from itertools import accumulate

import msgspec

from benchmarks.simulate.trace import Arrival, Segment, in_order

SYSTEM_TOKENS = 300


class Source:
    """Draws of one seed.

    Args:
        seed: The same one gives the same traffic.
        longest: Tokens that a prompt and its output may have together.
    """

    def __init__(self, seed: int, longest: int) -> None:
        self.draw = random.Random(seed)
        self.longest = longest
        self._names = 0

    def name(self, kind: str) -> str:
        """A text that nobody has had."""
        self._names += 1
        return f"{kind}-{self._names}"

    def length(self, median: float, spread: float, most: int) -> int:
        """Log-normal, of at least one token."""
        return max(1, min(most, round(self.draw.lognormvariate(math.log(median), spread))))

    def request(self, seconds: float, prompt: list[Segment], output: int, limit: int) -> Arrival:
        """One that fits the server; its own prompt gives way."""
        room = self.longest - limit - sum(segment.tokens for segment in prompt[:-1])
        last = Segment(prompt[-1].name, max(1, min(prompt[-1].tokens, room)))
        return Arrival(
            seconds=seconds, prompt=[*prompt[:-1], last], output=output, limit=limit, name=self.name("output")
        )

    def poisson(self, rate: float, count: int) -> Iterator[float]:
        """Times of ``count`` arrivals at ``rate`` a second."""
        now = 0.0
        for _ in range(count):
            now += self.draw.expovariate(rate)
            yield now


def chat(source: Source, rate: float, count: int) -> list[Arrival]:
    """Questions of middle length, answers about as long; limits far above what answers need."""
    return [
        source.request(
            now,
            [Segment(source.name("chat"), source.length(180, 1.1, 1500))],
            source.length(130, 0.9, 1024),
            512,
        )
        for now in source.poisson(rate, count)
    ]


def code(source: Source, rate: float, count: int) -> list[Arrival]:
    """Long contexts, short completions."""
    return [
        source.request(
            now, [Segment(source.name("code"), source.length(900, 0.7, 3000))], source.length(24, 0.9, 400), 256
        )
        for now in source.poisson(rate, count)
    ]


def documents(source: Source, rate: float, count: int) -> list[Arrival]:
    """Documents to be summed up."""
    return [
        source.request(
            now, [Segment(source.name("document"), source.length(2500, 0.5, 6000))], source.length(160, 0.4, 400), 400
        )
        for now in source.poisson(rate, count)
    ]


def bursts(source: Source, rate: float, count: int) -> list[Arrival]:
    """Chats in spells: four fifths of them in a fifth of the time."""
    arrivals: list[Arrival] = []
    now, busy = 0.0, False
    until = 0.0
    for arrival in chat(source, rate, count):
        while now >= until:
            busy = not busy
            until += source.draw.expovariate(rate / (10 if busy else 40))
        now += source.draw.expovariate(rate * (4 if busy else 0.25))
        arrivals.append(msgspec.structs.replace(arrival, seconds=now))
    return arrivals


def assistants(source: Source, rate: float, count: int, systems: int = 8) -> list[Arrival]:
    """A few system prompts, the more popular the earlier (Zipf), each before many short questions."""
    prompts = [Segment(f"system-{number}", SYSTEM_TOKENS + 200 * (number % 8)) for number in range(systems)]
    weights = list(accumulate(1 / (rank + 1) for rank in range(systems)))
    return [
        source.request(
            now,
            [
                source.draw.choices(prompts, cum_weights=weights)[0],
                Segment(source.name("question"), source.length(60, 0.8, 400)),
            ],
            source.length(90, 0.8, 400),
            256,
        )
        for now in source.poisson(rate, count)
    ]


def conversations(source: Source, rate: float, count: int) -> list[Arrival]:
    """Turns of conversations, each with all that was said before it."""
    arrivals: list[Arrival] = []
    system = Segment("system-conversation", SYSTEM_TOKENS)
    starts = source.poisson(rate / 3, count)
    while len(arrivals) < count:
        now, said = next(starts), [system]
        for _ in range(source.draw.choice((1, 2, 3, 4, 5))):
            question = Segment(source.name("turn"), source.length(50, 0.8, 300))
            turn = source.request(now, [*said, question], source.length(90, 0.7, 256), 256)
            if turn.prompt_tokens + turn.limit + 600 > source.longest:
                break
            arrivals.append(turn)
            said = [*turn.prompt, Segment(turn.name, turn.generated)]
            now += 2.0 + turn.generated * 0.02 + source.draw.expovariate(1 / 8)
    return in_order(arrivals)[:count]


TRAFFIC: dict[str, Callable[[Source, float, int], list[Arrival]]] = {
    "chat": chat,
    "code": code,
    "documents": documents,
    "bursts": bursts,
    "assistants": assistants,
    "conversations": conversations,
}
