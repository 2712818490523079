"""Constraints as requests have them: plain data. Whether one can be had is ``check``'s to say."""

from __future__ import annotations

import json
from collections.abc import Sequence

from runtime.request import Constraint, ConstraintKind

MAX_BYTES = 2**18
"""Of a constraint's text in UTF-8."""

COMPACT = '{"whitespace_flexible":false}'
"""Options of every JSON schema that has none of its own (``x-guidance``): no white space between tokens of JSON.

A small model that may write blanks writes them until its tokens are used up.
"""


class ConstraintError(ValueError):
    """A constraint that cannot be had; the message is for whoever asked for it."""


def json_schema(schema: str) -> Constraint:
    """JSON that is valid under ``schema``, itself JSON."""
    return Constraint(ConstraintKind.JSON_SCHEMA, schema)


def json_object() -> Constraint:
    """Any JSON object."""
    return json_schema('{"type":"object"}')


def regex(pattern: str) -> Constraint:
    """A text that ``pattern`` matches from its beginning to its end; in the syntax of Rust's ``regex`` crate."""
    return Constraint(ConstraintKind.REGEX, pattern)


def grammar(text: str) -> Constraint:
    """A context-free grammar: in Lark's notation with a rule ``start``, or in GBNF (EBNF) with a rule ``root``."""
    return Constraint(ConstraintKind.LARK, text)


def choice(texts: Sequence[str]) -> Constraint:
    """One of ``texts``."""
    return grammar(f"start: {' | '.join(map(quoted, texts))}")


def quoted(text: str) -> str:
    """A string of Lark's."""
    return json.dumps(text, ensure_ascii=False)
