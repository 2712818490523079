"""What is asked: prompts without end, new to the prefix cache but for what they are to share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from benchmarks.load.lengths import Lengths
from benchmarks.load.trace import TraceEntry

FIRST_TOKEN = 100
"""Ids below are special tokens of most vocabularies."""


@dataclass(frozen=True)
class Ask:
    """One request: its prompt, as text or token ids, and how many tokens to generate."""

    prompt: str | list[int]
    output_tokens: int


@dataclass(frozen=True)
class Words:
    """Token ids that random prompts are made of, and the prefixes that they begin with.

    Attributes:
        last: Largest token id.
        shared_tokens: Length of a shared prefix, in front of the drawn length; 0 for none.
        shared_count: Number of different prefixes.
    """

    last: int = 40000
    shared_tokens: int = 0
    shared_count: int = 1

    def ids(self, count: int, rng: random.Random) -> list[int]:
        """Random ones."""
        return [rng.randint(FIRST_TOKEN, self.last) for _ in range(count)]


def drawn(inputs: Lengths, outputs: Lengths, words: Words, rng: random.Random) -> Iterator[Ask]:
    """Random prompts of drawn lengths."""
    prefixes = [words.ids(words.shared_tokens, rng) for _ in range(words.shared_count)]
    while True:
        prompt = rng.choice(prefixes) + words.ids(inputs.draw(rng), rng)
        yield Ask(prompt, outputs.draw(rng))


def replayed(entries: Sequence[TraceEntry], words: Words, rng: random.Random) -> Iterator[Ask]:
    """The entries of a trace, over and over; prompts of which it has the length alone are random."""
    for entry in cycle(entries):
        prompt = words.ids(entry.prompt_tokens or 0, rng) if entry.prompt is None else entry.prompt
        yield Ask(prompt, entry.output_tokens)
