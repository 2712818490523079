"""Prompt lookup: what followed the last time that the text ended like this."""

from __future__ import annotations

import random

import pytest

from runtime.scheduler import ngram_index
from runtime.scheduler.ngram_index import NgramIndex


def test_the_continuation_of_the_longest_known_ending_is_copied() -> None:
    tokens = [1, 2, 3, 40, 41, 42, 9, 2, 3, 50, 51, 1, 2, 3]
    assert NgramIndex().continuation(tokens, 3) == [40, 41, 42], "1 2 3 says more than the later 2 3"


def test_of_equal_endings_the_last_one_counts() -> None:
    assert NgramIndex().continuation([1, 2, 3, 40, 1, 2, 3, 50, 1, 2, 3], 1) == [50]


def test_a_shorter_ending_will_do() -> None:
    assert NgramIndex().continuation([7, 2, 3, 40, 41, 8, 2, 3], 2) == [40, 41]


def test_a_text_that_repeats_itself_goes_on_repeating() -> None:
    assert NgramIndex().continuation([5, 1, 2, 3, 1, 2, 3], 7) == [1, 2, 3, 1, 2, 3, 1]
    assert NgramIndex().continuation([4, 4, 4], 3) == [4, 4, 4]


@pytest.mark.parametrize("tokens", [[], [1], [1, 1], [1, 2], [1, 2, 3, 4]])
def test_nothing_is_guessed_from_nothing(tokens: list[int]) -> None:
    assert NgramIndex().continuation(tokens, 4) == []


def naive(tokens: list[int], length: int) -> list[int]:
    for size in ngram_index.SIZES:
        for end in range(len(tokens) - 1, size - 1, -1):
            if tokens[end - size : end] == tokens[-size:]:
                found = list(tokens)
                for _ in range(length):
                    found.append(found[end + len(found) - len(tokens)])
                return found[len(tokens) :]
    return []


@pytest.mark.parametrize("seed", range(5))
def test_a_growing_text_is_read_as_if_it_were_read_afresh(seed: int) -> None:
    rng = random.Random(seed)
    index, tokens = NgramIndex(), [rng.randrange(4) for _ in range(rng.randrange(10))]
    for _ in range(100):
        tokens += [rng.randrange(4) for _ in range(rng.randrange(1, 4))]
        length = rng.randrange(1, 9)
        assert index.continuation(tokens, length) == naive(tokens, length)


def test_what_is_remembered_of_a_long_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_index, "WINDOW", 50)
    index, tokens = NgramIndex(), list(range(100, 300))
    for token in range(1000):
        tokens.append(token % 400)
        index.continuation(tokens, 3)
        assert all(len(ends) <= 100 for ends in index._ends.values())
    assert index.continuation(tokens + tokens[-20:-17], 2) == tokens[-17:-15]
