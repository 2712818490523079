"""The texts of preference pairs, each once, and where a pair finds its two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engine.reward_head.conversation import chat_text, marked_text
from build_engine.reward_head.pairs import Pair

FORMS: dict[str, Callable[[str, str], str]] = {"chat": chat_text, "marked": marked_text}
"""How a conversation may come to the server: as the template renders it, or as text with a reward marker."""


@dataclass(frozen=True, slots=True)
class PairTexts:
    """Answers by question, numbered through.

    Attributes:
        answers: Of each question, in order.
        chosen: int64 ``[pairs]``: number of the better answer.
        rejected: int64 ``[pairs]``: number of the other.
        questions: int64 ``[pairs]``: number of the question.
    """

    answers: dict[str, list[str]]
    chosen: npt.NDArray[np.int64]
    rejected: npt.NDArray[np.int64]
    questions: npt.NDArray[np.int64]

    def rendered(self, form: str) -> list[list[str]]:
        """The texts in one of ``FORMS``, a list for each question."""
        render = FORMS[form]
        return [[render(question, answer) for answer in answers] for question, answers in self.answers.items()]


def texts_of(pairs: Sequence[Pair]) -> PairTexts:
    """The texts of ``pairs``; answers that several pairs of a question share are there once."""
    answers: dict[str, dict[str, None]] = {}
    for pair in pairs:
        answers.setdefault(pair.question, {}).update({pair.chosen: None, pair.rejected: None})
    places = {key: place for place, key in enumerate((q, answer) for q in answers for answer in answers[q])}
    numbers = {question: number for number, question in enumerate(answers)}
    return PairTexts(
        answers={question: list(given) for question, given in answers.items()},
        chosen=np.array([places[pair.question, pair.chosen] for pair in pairs], np.int64),
        rejected=np.array([places[pair.question, pair.rejected] for pair in pairs], np.int64),
        questions=np.array([numbers[pair.question] for pair in pairs], np.int64),
    )
