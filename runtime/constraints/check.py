"""Whether a constraint can be had, without a vocabulary: what the HTTP side asks before it takes a request."""

from __future__ import annotations

from llguidance import LLMatcher

from runtime.constraints.panics import panics_refuse
from runtime.constraints.specification import ConstraintError
from runtime.constraints.translate import LIMITS, as_lark, message_of, translate
from runtime.request import Constraint


def check(constraint: Constraint) -> Constraint:
    """Compile ``constraint``, and throw the outcome away.

    Takes up to a second or so, most of it without the interpreter's lock: for a thread.

    Returns:
        The constraint as the engine takes it.

    Raises:
        ConstraintError: It is wrong, too large, or uses what is not supported.
    """
    constraint = as_lark(constraint)
    with panics_refuse():
        failed, messages = LLMatcher.validate_grammar_with_warnings(translate(constraint), limits=LIMITS)
    if failed:
        raise ConstraintError(message_of("; ".join(messages)))
    return constraint
