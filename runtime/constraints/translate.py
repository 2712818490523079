"""From a constraint's text to what llguidance compiles, and what it may cost."""

from __future__ import annotations

import json

from llguidance import LLMatcher, LLParserLimits
from llguidance.gbnf_to_lark import gbnf_to_lark, is_lark_syntax

from runtime.constraints.divisors import check_divisors
from runtime.constraints.specification import COMPACT, MAX_BYTES, ConstraintError
from runtime.request import Constraint, ConstraintKind

MAX_GBNF_BYTES = 8192
"""GBNF is turned into Lark in Python, in time that grows with the square of the number of rules."""

LIMITS = LLParserLimits(max_lexer_states=16_384, verbose_errors=False)
"""llguidance's own but for the states, of 1 to 2 kB each: they bound the time of compiling and of each mask, and the
depth of what is nested."""

_LONGEST_MESSAGE = 400


def translate(constraint: Constraint) -> str:
    """The grammar in llguidance's terms.

    Raises:
        ConstraintError: The text is too long, no JSON object where that is wanted, or asks for too large a divisor.
    """
    text = constraint.text
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        raise ConstraintError(f"{size} bytes are more than the {MAX_BYTES} that a constraint may have")
    if constraint.kind is not ConstraintKind.REGEX:
        check_divisors(text)
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            if not text.lstrip().startswith("{"):
                raise ConstraintError("a JSON schema has to be an object")
            try:
                return LLMatcher.grammar_from_json_schema(text, defaults=json.loads(COMPACT))
            except ValueError as error:
                raise ConstraintError(message_of(str(error))) from None
        case ConstraintKind.REGEX:
            return LLMatcher.grammar_from_regex(text)
        case ConstraintKind.LARK:
            return LLMatcher.grammar_from_lark(text)


def as_lark(constraint: Constraint) -> Constraint:
    """The same constraint without GBNF.

    Raises:
        ConstraintError: The GBNF is too long or wrong.
    """
    text = constraint.text
    if constraint.kind is not ConstraintKind.LARK or is_lark_syntax(text):
        return constraint
    if len(text.encode(errors="replace")) > MAX_GBNF_BYTES:
        raise ConstraintError(f"a grammar in EBNF may have {MAX_GBNF_BYTES} bytes; Lark's notation may have more")
    try:
        return Constraint(ConstraintKind.LARK, gbnf_to_lark(text))
    except RecursionError:
        raise ConstraintError("the grammar is nested too deeply") from None
    except Exception as error:  # the library raises plain Exception
        raise ConstraintError(message_of(str(error))) from None


def message_of(error: str) -> str:
    """An error of llguidance's as clients get it."""
    text = error.replace("<non-verbose/>", "").strip()
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
