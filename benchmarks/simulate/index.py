"""Who was sent which beginnings of prompts: an index from prefixes to replicas."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

from benchmarks.simulate.trace import Arrival, Segment

BLOCK = 64
"""Tokens of a step of the index: four KV blocks, which is near enough to choose by and a quarter of the work."""


def prefix_keys(arrival: Arrival) -> Sequence[int]:
    """A number for each beginning of the prompt of whole blocks, the shortest first; the last token is not in any."""
    return _keys(tuple(arrival.prompt))


@lru_cache(maxsize=256)
def _keys(prompt: tuple[Segment, ...]) -> tuple[int, ...]:
    tokens = [token for segment in prompt for token in segment.ids()]
    keys: list[int] = []
    key = 0
    for start in range(0, len(tokens) - BLOCK, BLOCK):
        key = hash((key, tokens[start], tokens[start + BLOCK - 1]))
        keys.append(key)
    return tuple(keys)


class Holders:
    """Replicas that have a prefix: a set that can be drawn from."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._places: dict[int, int] = {}

    def add(self, number: int) -> None:
        """One more, if it is new."""
        if number not in self._places:
            self._places[number] = len(self.numbers)
            self.numbers.append(number)

    def remove(self, number: int) -> None:
        """One less: the last takes its place."""
        place, last = self._places.pop(number), self.numbers.pop()
        if last != number:
            self.numbers[place] = last
            self._places[last] = place


class PrefixIndex:
    """Prefixes of prompts, and who was sent them of late.

    Args:
        remembered: KV blocks of 16 tokens a replica; what was sent longest ago is forgotten first, as it is there.
    """

    def __init__(self, remembered: int) -> None:
        self._most = remembered * 16 // BLOCK
        self._holders: dict[int, Holders] = defaultdict(Holders)
        self._sent: dict[int, OrderedDict[int, None]] = defaultdict(OrderedDict)

    def holders(self, keys: Sequence[int]) -> Iterator[list[int]]:
        """Who has the longest of these prefixes, then who has the next shorter one, and so on."""
        known = 0
        while known < len(keys) and keys[known] in self._holders:
            known += 1
        for key in reversed(keys[:known]):
            yield self._holders[key].numbers

    def add(self, number: int, keys: Sequence[int]) -> None:
        """A replica gets a prompt."""
        sent = self._sent[number]
        for key in reversed(keys):  # so that the shortest, which others share, is the newest
            sent[key] = None
            sent.move_to_end(key)
            self._holders[key].add(number)
        while len(sent) > self._most:
            self._drop(number, sent.popitem(last=False)[0])

    def forget(self, number: int) -> None:
        """A replica has lost everything."""
        for key in self._sent.pop(number, ()):
            self._drop(number, key)

    def _drop(self, number: int, key: int) -> None:
        holders = self._holders[key]
        holders.remove(number)
        if not holders.numbers:
            del self._holders[key]
