"""Token healing: the last tokens of a prompt are drawn anew, so that the model can join them to what follows.

A prompt that ends inside of what would be one token makes a model write on from a place that its training hardly
knows. The last tokens are taken back, and the output has to begin with their bytes, in whatever tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from runtime.request import Opening, OpeningState
from server.openai.token_texts import TokenTexts

MAX_TAKEN_BACK = 2
"""Tokens, as in LightLLM; at least one is left."""

EXTRA_TOKENS = 6
"""By which LightLLM raises ``max_new_tokens`` besides those taken back."""

_MAX_BYTES = 64
"""Of the tokens taken back: more than any word, and an opening is made in a few milliseconds at most."""

_REMEMBERED = 64


class Healed(NamedTuple):
    """A prompt without its last tokens, those, and how the output has to begin."""

    prompt: list[int]
    taken_back: list[int]
    opening: Opening


class TokenHealing:
    """Knows which tokens spell what.

    Args:
        texts: Of the model's tokens.
        vocab_size: Logits of the model.
        special_ids: Tokens that no text is spelled with.
    """

    def __init__(self, texts: TokenTexts, vocab_size: int, special_ids: Collection[int]) -> None:
        spelled = ((texts.data(token), token) for token in range(vocab_size) if token not in special_ids)
        self._texts, self._special_ids = texts, special_ids
        tokens = sorted((data, token) for data, token in spelled if data)
        self._spellings = [data for data, _ in tokens]
        self._ids = [token for _, token in tokens]
        self._longest = max(map(len, self._spellings), default=0)
        self._opening = lru_cache(_REMEMBERED)(self._make_opening)

    def heal(self, prompt: list[int]) -> Healed | None:
        """Take back up to two tokens of ``prompt``, none of them special; ``None`` where there is nothing to take."""
        target = b""
        first = len(prompt)
        for place in reversed(range(max(1, len(prompt) - MAX_TAKEN_BACK), len(prompt))):
            data = b"" if prompt[place] in self._special_ids else self._texts.data(prompt[place])
            if not data or len(data) + len(target) > _MAX_BYTES:
                break
            first, target = place, data + target
        return Healed(prompt[:first], prompt[first:], self._opening(target)) if target else None

    def _make_opening(self, target: bytes) -> Opening:
        """States for as much of ``target`` as can be spelled at a time; it is known that all of it can be."""
        states: dict[int, OpeningState] = {}
        for place in reversed(range(len(target))):  # what comes after a state is made before it
            ids, following = self._spell(target, place, states)
            if ids:
                states[place] = OpeningState.of(ids, following)
        reached = [0]
        for place in reached:
            reached += sorted({after for _, after in states[place].following}.difference(reached))
        number = {place: index for index, place in enumerate(reached)}
        return tuple(
            OpeningState(states[p].allowed, tuple((token, number[after]) for token, after in states[p].following))
            for p in reached
        )

    def _spell(self, target: bytes, place: int, states: Collection[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """What may stand at ``place``, and what of it leads to another place.

        That is tokens that spell a part of the rest, if one can go on from there, and all that begin with the rest.
        """
        following = []
        for end in range(place + 1, min(len(target), place + self._longest + 1)):
            if end in states:
                following += [(token, end) for token in self._between(target[place:end], target[place:end] + b"\0")]
        rest = target[place:]
        beyond = rest.rstrip(b"\xff")
        last = [] if not beyond else [beyond[:-1] + bytes([beyond[-1] + 1])]
        return [token for token, _ in following] + self._between(rest, *last), following

    def _between(self, first: bytes, last: bytes | None = None) -> list[int]:
        """Tokens from ``first`` to before ``last``, by their bytes."""
        begin = bisect_left(self._spellings, first)
        end = len(self._spellings) if last is None else bisect_left(self._spellings, last)
        return self._ids[begin:end]
