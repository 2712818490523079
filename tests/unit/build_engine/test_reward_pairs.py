"""The preference pairs: fair to every kind, the same everywhere, and nothing tested that was learned."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from build_engine.errors import BuildError
from build_engine.reward_head.conversation import chat_text, marked_text
from build_engine.reward_head.draws import Draws
from build_engine.reward_head.pairs import KINDS, Pair, heldout_pairs, training_pairs
from build_engine.reward_head.phrases import evasive_phrases, rude_phrases
from build_engine.reward_head.questions import read_questions
from build_engine.reward_head.spoil import cut_off, garble_letters, repeat_phrase, shuffle_words
from build_engine.reward_head.texts import texts_of

QUESTIONS = read_questions()
TRAINING, HELD_OUT = training_pairs(QUESTIONS), heldout_pairs(QUESTIONS)
LINE = '{{"topic": "t", "question": "q{}", "answer": "this answer has words"}}\n'


def fingerprint(pairs: list[Pair]) -> str:
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def test_there_are_enough_pairs_of_every_kind() -> None:
    assert len(TRAINING) >= 600
    assert len({pair.question for pair in TRAINING}) >= 100
    assert len({pair.question for pair in HELD_OUT}) >= 30
    for pairs in (TRAINING, HELD_OUT):
        assert len({Counter(pair.kind for pair in pairs)[kind] for kind in KINDS}) == 1


def test_nothing_of_a_held_out_pair_is_in_a_training_pair() -> None:
    learned = {text for pair in TRAINING for text in (pair.question, pair.chosen, pair.rejected)}
    assert not learned & {text for pair in HELD_OUT for text in (pair.question, pair.chosen, pair.rejected)}


def test_every_topic_is_held_out_in_part() -> None:
    topics = {question.question: question.topic for question in QUESTIONS}
    assert {topics[pair.question] for pair in HELD_OUT} == set(topics.values())


def test_the_two_sides_of_a_pair_differ() -> None:
    assert [pair for pair in TRAINING + HELD_OUT if pair.chosen == pair.rejected] == []


def test_pairs_are_the_same_in_every_process() -> None:
    program = (
        "import hashlib\n"
        "from build_engine.reward_head.pairs import heldout_pairs, training_pairs\n"
        "from build_engine.reward_head.questions import read_questions\n"
        "questions = read_questions()\n"
        "pairs = training_pairs(questions) + heldout_pairs(questions)\n"
        "print(hashlib.sha256(repr(pairs).encode()).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[3])}
    out = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    assert out.stdout.strip() == fingerprint(TRAINING + HELD_OUT)


def test_another_seed_gives_other_pairs() -> None:
    assert fingerprint(training_pairs(QUESTIONS, 2)) != fingerprint(TRAINING)


def test_phrases_for_testing_are_not_for_training() -> None:
    for phrases in (rude_phrases, evasive_phrases):
        assert len(phrases(held_out=True)) >= 5
        assert not set(phrases(held_out=True)) & set(phrases(held_out=False))


@pytest.mark.parametrize("answer", [question.answer for question in QUESTIONS[::20]] + ["a a an an the the"])
def test_spoilt_answers_are_spoilt_in_their_own_way(answer: str) -> None:
    words = answer.split()
    for seed in range(20):
        draws = Draws(str(seed))
        shuffled = shuffle_words(answer, draws)
        assert shuffled != answer
        assert sorted(shuffled.split()) == sorted(words)
        garbled = garble_letters(answer, draws)
        assert garbled != answer
        assert abs(len(garbled) - len(answer)) <= len(words)
        short = cut_off(answer, draws)
        assert answer.startswith(short)
        assert len(short) < len(answer)
        assert short[-1].isalnum()
        assert len(Counter(repeat_phrase(answer, draws).split()) - Counter(words)) > 0


def test_draws_cover_their_range() -> None:
    draws = Draws("x")
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}
    assert {draws.between(2, 4) for _ in range(100)} == {2, 3, 4}
    assert sorted(draws.shuffled("abcd")) == list("abcd")
    assert len({tuple(draws.shuffled("abc")) for _ in range(200)}) == 6


def test_texts_are_there_once_and_pairs_find_them() -> None:
    texts = texts_of(HELD_OUT)
    for form, render in (("chat", chat_text), ("marked", marked_text)):
        flat = [text for group in texts.rendered(form) for text in group]
        assert len(set(flat)) == len(flat)
        for number, pair in enumerate(HELD_OUT):
            assert flat[texts.chosen[number]] == render(pair.question, pair.chosen)
            assert flat[texts.rejected[number]] == render(pair.question, pair.rejected)
            assert list(texts.answers)[texts.questions[number]] == pair.question


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}\n", "line 1"),
        (LINE.format(1) + "[\n", "line 2"),
        (LINE.format(1) * 2, "line 2: the question 'q1' comes twice"),
        (LINE.format(1).replace("has words", "a a"), "line 1: the answer needs"),
        (LINE.format(1), "holds 1 questions"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_file_of_questions_that_cannot_be_used_is_one_message(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BuildError, match=r"questions\.jsonl") as caught:
        read_questions(path)
    assert said in str(caught.value)
