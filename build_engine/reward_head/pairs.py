"""Preference pairs: to each question its good answer, and a bad one of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from build_engine.reward_head.draws import Draws
from build_engine.reward_head.phrases import evasive_phrases, rude_phrases
from build_engine.reward_head.questions import Question, heldout_questions, training_questions
from build_engine.reward_head.spoil import cut_off, garble_letters, repeat_phrase, shuffle_words

KINDS = ("shuffled", "garbled", "irrelevant", "cut off", "repetitive", "rude", "evasive")
SEED = 1

_SPOILERS: dict[str, Callable[[str, Draws], str]] = {
    "shuffled": shuffle_words,
    "garbled": garble_letters,
    "cut off": cut_off,
    "repetitive": repeat_phrase,
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one question, the first of them better.

    Attributes:
        kind: What is wrong with ``rejected``: one of ``KINDS``.
    """

    question: str
    chosen: str
    rejected: str
    kind: str


def training_pairs(questions: list[Question], seed: int = SEED) -> list[Pair]:
    """Pairs of the questions to learn from."""
    return _pairs(training_questions(questions), seed, held_out=False)


def heldout_pairs(questions: list[Question], seed: int = SEED) -> list[Pair]:
    """Pairs of the other questions: their answers and stock phrases are in no training pair."""
    return _pairs(heldout_questions(questions), seed, held_out=True)


def _pairs(questions: list[Question], seed: int, *, held_out: bool) -> list[Pair]:
    return [
        Pair(item.question, item.answer, rejected, kind)
        for index, item in enumerate(questions)
        for kind in KINDS
        for rejected in [_rejected(kind, index, questions, Draws(f"{seed} {kind} {item.question}"), held_out)]
    ]


def _rejected(kind: str, index: int, questions: list[Question], draws: Draws, held_out: bool) -> str:
    if kind in _SPOILERS:
        return _SPOILERS[kind](questions[index].answer, draws)
    if kind == "irrelevant":
        return draws.one_of(questions[:index] + questions[index + 1 :]).answer
    phrases = rude_phrases if kind == "rude" else evasive_phrases
    return draws.one_of(phrases(held_out=held_out))
