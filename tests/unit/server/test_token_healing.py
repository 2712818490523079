"""Token healing: what is taken back, and which tokens may spell it again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models
from toy_tokenizer import EOS_ID, VOCAB_SIZE, byte_id, toy_tokenizer

from runtime.request import Opening
from server.openai.token_texts import TokenTexts
from server.token_healing import TokenHealing

TOKENIZER = toy_tokenizer()
TEXTS = TokenTexts(TOKENIZER)
HEALING = TokenHealing(TEXTS, VOCAB_SIZE, {EOS_ID})


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def named(text: str) -> int:
    found: int = TOKENIZER.token_to_id(text)
    return found


def allowed(opening: Opening, state: int) -> set[int]:
    return set(np.frombuffer(opening[state].allowed, "<i4").tolist())


def spellings(opening: Opening) -> set[tuple[int, ...]]:
    """Every way through an opening."""
    done, open_ = set(), [((), 0)]
    while open_:
        path, state = open_.pop()
        following = dict(opening[state].following)
        for token in allowed(opening, state):
            if token in following:
                open_.append(((*path, token), following[token]))
            else:
                done.add((*path, token))
    return done


def test_every_spelling_of_the_end_and_of_more_than_it_is_allowed() -> None:
    healed = HEALING.heal([*ids("x"), named("he"), named("ll")])
    assert healed is not None
    assert (healed.prompt, healed.taken_back) == (ids("x"), [named("he"), named("ll")])
    h, e, l_ = (byte_id(ord(letter)) for letter in "hel")
    he, ll = named("he"), named("ll")
    assert spellings(healed.opening) == {
        (h, e, l_, l_),
        (h, e, ll),
        (h, e, l_, ll),  # beyond the end
        (he, l_, l_),
        (he, ll),
        (he, l_, ll),
        (named("hell"),),
        (named("hello"),),
    }


def test_the_end_itself_may_be_drawn_again() -> None:
    healed = HEALING.heal(ids("say o"))
    assert healed is not None
    assert tuple(healed.taken_back) in spellings(healed.opening)
    assert allowed(healed.opening, 1) == {byte_id(ord("o")), named("op")}


@given(st.binary(min_size=1, max_size=4), st.sampled_from(["", "he", "hello", " sto", "ll"]))
def test_what_is_spelled_begins_with_what_was_taken_back(data: bytes, end: str) -> None:
    healed = HEALING.heal([byte_id(byte) for byte in data] + ids(end))
    if healed is None:
        assert len(data) + len(ids(end)) == 1
        return
    target = b"".join(map(TEXTS.data, healed.taken_back))
    for path in spellings(healed.opening):
        spelled = b"".join(map(TEXTS.data, path))
        assert spelled.startswith(target)
        assert not b"".join(map(TEXTS.data, path[:-1])).startswith(target)
        assert EOS_ID not in path


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ("a", 1),
        ("ab", 1),
        ("abc", 1),
        ("abcd", 2),
        ("ab<eos>", 3),
        ("ab<eos>c", 3),
        ("ab<eos>cd", 3),
    ],
)
def test_one_token_is_left_and_special_ones_stay(prompt: str, kept: int) -> None:
    healed = HEALING.heal(ids(prompt))
    assert (len(ids(prompt)) if healed is None else len(healed.prompt)) == kept


def test_very_long_tokens_stay() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "b" * 70: 2, "b" * 40: 3}, []))
    healing = TokenHealing(TokenTexts(tokenizer), 4, ())
    assert healing.heal([0, 0, 2]) is None
    healed = healing.heal([0, 3, 3])
    assert healed is not None
    assert healed.taken_back == [3]


def test_a_way_that_cannot_be_gone_on_is_no_way() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "ab": 1, "abc": 2, "b": 3}, []))
    healed = TokenHealing(TokenTexts(tokenizer), 4, ()).heal([3, 2])
    assert healed is not None
    assert spellings(healed.opening) == {(2,)}, "a and ab leave a c that nothing spells"


def test_sentencepiece_spaces_and_bytes_count() -> None:
    vocabulary = ["<unk>", "a", "▁", "▁the", "th", "<0xC3>", "<0xA9>", "é", "▁t", "he"]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(vocabulary)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    healing = TokenHealing(TokenTexts(tokenizer), 12, {10})
    healed = healing.heal([10, 1, 8, 9])
    assert healed is not None
    assert spellings(healed.opening) == {(8, 9), (3,)}
    healed = healing.heal([10, 1, 5, 6])
    assert healed is not None
    assert spellings(healed.opening) == {(5, 6), (7,)}
