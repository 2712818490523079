"""Ways to make a bad answer out of a good one."""

from __future__ import annotations

import string

from build_engine.reward_head.draws import Draws

_GARBLED_SHARE = 3  # one word of so many
_LONG_WORD = 4
_PHRASE_WORDS = (2, 5)
_REPEATS = (4, 8)


def shuffle_words(answer: str, draws: Draws) -> str:
    """The same words in another order."""
    words = answer.split()
    while (shuffled := draws.shuffled(words)) == words:
        pass
    return " ".join(shuffled)


def garble_letters(answer: str, draws: Draws) -> str:
    """A third of the words, and at least two, lose, swap or replace letters; digits count as letters."""
    words = answer.split()
    order = draws.shuffled([index for index, word in enumerate(words) if len(word) > 1])
    for index in order[: max(2, len(words) // _GARBLED_SHARE)]:
        words[index] = _garble(words[index], draws)
    return " ".join(words)


def cut_off(answer: str, draws: Draws) -> str:
    """The beginning, ended after a word that no punctuation follows: a quarter of the words or more, but never all."""
    words = answer.split()
    ends = [count for count in range(max(2, len(words) // 4), len(words)) if words[count - 1][-1].isalnum()]
    return " ".join(words[: draws.one_of(ends or [1])])


def repeat_phrase(answer: str, draws: Draws) -> str:
    """The beginning, then a phrase of it again and again."""
    words = answer.split()
    length = min(draws.between(*_PHRASE_WORDS), len(words))
    start = draws.below(len(words) - length + 1)
    phrase = words[start : start + length]
    return " ".join(words[:start] + phrase * draws.between(*_REPEATS))


def _garble(word: str, draws: Draws) -> str:
    """``word`` with one change, or two where it is long; never the same again."""
    changes = (_drop, _swap, _replace)
    garbled = word
    for _ in range(2 if len(word) > _LONG_WORD else 1):
        garbled = draws.one_of(changes)(garbled, draws)
    return garbled if garbled != word else _drop(word, draws)


def _drop(word: str, draws: Draws) -> str:
    at = draws.below(len(word))
    return word[:at] + word[at + 1 :] if len(word) > 1 else word


def _swap(word: str, draws: Draws) -> str:
    if len(word) < 2:
        return word
    at = draws.below(len(word) - 1)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _replace(word: str, draws: Draws) -> str:
    at = draws.below(len(word))
    return word[:at] + draws.one_of(string.ascii_lowercase) + word[at + 1 :]
