"""The tokens of the multiple-choice task, as lm-eval makes them."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import msgspec
from tokenizers import Tokenizer


class Question(msgspec.Struct, frozen=True):
    """A beginning, and ways to go on."""

    context: str
    choices: list[str]
    label: int


class Continuation(NamedTuple):
    """One choice: all tokens, and how many of them are the context's."""

    tokens: list[int]
    context: int


class Likelihood(NamedTuple):
    """What lm-eval asks of a continuation."""

    logprob: float
    greedy: bool


def read_questions() -> list[Question]:
    """The checked-in questions."""
    lines = files("benchmarks.lm_eval").joinpath("tasks/continuations.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Question) for line in lines]


def continuations(tokenizer: Tokenizer, questions: list[Question]) -> list[Continuation]:
    """All choices of all questions, in order; tokenized together with their contexts."""

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return [
        Continuation(ids(question.context + choice), len(ids(question.context)))
        for question in questions
        for choice in question.choices
    ]


def choices(questions: list[Question], likelihoods: list[Likelihood]) -> list[int]:
    """The likeliest choice of each question."""
    left = iter(likelihoods)
    found = []
    for question in questions:
        logprobs = [next(left).logprob for _ in question.choices]
        found.append(logprobs.index(max(logprobs)))
    return found


def accuracy(questions: list[Question], likelihoods: list[Likelihood]) -> float:
    """The share of questions whose likeliest choice is the right one."""
    pairs = zip(questions, choices(questions, likelihoods), strict=True)
    return sum(question.label == choice for question, choice in pairs) / len(questions)
