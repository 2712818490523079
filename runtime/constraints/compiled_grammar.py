"""A constraint compiled for a vocabulary."""

from __future__ import annotations

from llguidance import LLMatcher

from runtime.constraints.panics import panics_refuse
from runtime.constraints.specification import ConstraintError
from runtime.constraints.translate import LIMITS, message_of, translate
from runtime.constraints.vocabulary import Vocabulary
from runtime.request import Constraint

Matcher = LLMatcher


class Grammar:
    """Where every output under a constraint begins.

    Attributes:
        vocab_size: Bits in a mask.
    """

    def __init__(self, start: Matcher, vocab_size: int) -> None:
        self._start = start
        self.vocab_size = vocab_size

    def matcher(self) -> Matcher:
        """A new state before the first token; takes microseconds."""
        return self._start.deep_copy()


def compile_grammar(vocabulary: Vocabulary, constraint: Constraint) -> Grammar:
    """Compile ``constraint``, mostly without the interpreter's lock.

    Raises:
        ConstraintError: It is wrong, too large, or nothing satisfies it.
    """
    with panics_refuse():
        start = LLMatcher(vocabulary, translate(constraint), log_level=0, limits=LIMITS)
        if not start.is_error():
            start.compute_bitmask()  # what is too complex, or has no word at all, shows here
    if start.is_error():
        raise ConstraintError(message_of(start.get_error()))
    return Grammar(start, vocabulary.vocab_size)
