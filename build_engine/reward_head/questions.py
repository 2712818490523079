"""The checked-in questions with good answers, and which of them the head never sees."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import msgspec

from build_engine.errors import BuildError

_HELD_OUT_EVERY = 4
_MIN_QUESTIONS = 4 * _HELD_OUT_EVERY
_MIN_WORDS = 4


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question and an answer that a helpful assistant would give.

    Attributes:
        topic: For people; the file has as many questions of each.
    """

    topic: str
    question: str
    answer: str


def read_questions(path: Path | None = None) -> list[Question]:
    """The questions of a JSON Lines file, by default the checked-in one.

    Raises:
        BuildError: The file cannot be read, a line is not a question, a question comes twice, an answer is too short to
            be spoilt, or there are too few.
    """
    name = str(path or "reward_questions.jsonl")
    try:
        text = (path or files("build_engine.data").joinpath("reward_questions.jsonl")).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{name}: cannot be read: {error}") from None
    questions: dict[str, Question] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            question = msgspec.json.decode(line, type=Question)
        except msgspec.DecodeError as error:
            raise BuildError(f"{name}, line {number}: {error}") from None
        if question.question in questions:
            raise BuildError(f"{name}, line {number}: the question {question.question!r} comes twice")
        if len({word for word in question.answer.split() if len(word) > 1}) < _MIN_WORDS:
            raise BuildError(f"{name}, line {number}: the answer needs at least {_MIN_WORDS} different words")
        questions[question.question] = question
    if len(questions) < _MIN_QUESTIONS:
        raise BuildError(f"{name}: holds {len(questions)} questions; at least {_MIN_QUESTIONS} are needed")
    return list(questions.values())


def training_questions(questions: list[Question]) -> list[Question]:
    """Three of four, in order."""
    return [question for index, question in enumerate(questions) if index % _HELD_OUT_EVERY != _HELD_OUT_EVERY - 1]


def heldout_questions(questions: list[Question]) -> list[Question]:
    """Every fourth: nothing of them, no answer and no choice made by their scores, goes into the head."""
    return questions[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
