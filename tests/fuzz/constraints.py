"""Constraints: whatever a client sends is compiled, for a vocabulary, or refused; each in bounded time."""

from __future__ import annotations

import random
import time
from functools import cache

from fuzz.choices import Choices
from llguidance import LLTokenizer
from toy_tokenizer import EOS_ID, VOCAB_SIZE, toy_tokenizer

from runtime.constraints import ConstraintError, check
from runtime.constraints.compiled_grammar import compile_grammar
from runtime.request import Constraint, ConstraintKind

SECONDS = 5.0
LONG = 200
KEYS = (
    *("type", "properties", "items", "prefixItems", "$ref", "$defs", "anyOf", "allOf", "oneOf", "enum", "const", "not"),
    *("minLength", "maxLength", "pattern", "format", "minimum", "multipleOf", "minItems", "maxItems", "required"),
    *("additionalProperties", "patternProperties", "x-guidance", "whitespace_flexible", "a", "b"),
)
REGEX = (
    "a",
    "[a-z]",
    "[^\\x00]",
    ".",
    "(",
    ")",
    "|",
    "*",
    "+",
    "?",
    "{2}",
    "{1,1000}",
    "{99999}",
    "\\",
    "\\p{L}",
    "^",
    "$",
)
LARK = (
    *(
        "start:",
        "root ::=",
        " a ",
        " b ",
        "\na:",
        "\nb:",
        '"x"',
        "/[a-z]+/",
        "|",
        "(",
        ")",
        "*",
        "+",
        "?",
        "{1,9}",
        "\n",
    ),
    *("%json {}", '%json {"type":"object"}', "%regex {}", "<[1]>", "<[999999]>", "[capture]", "%import", "%ignore /x/"),
    *("start", "root", "A: ", " A ", "~2", "::= ", '"', "/", "[0-9]", "%llguidance {}", "&", "~"),
)


@cache
def vocabulary() -> LLTokenizer:
    """Of single bytes, mostly."""
    return LLTokenizer(toy_tokenizer().to_str(), n_vocab=VOCAB_SIZE, eos_token=[EOS_ID])


def one_input(data: bytes) -> None:
    """Check one constraint as an HTTP worker does, then compile it as the engine does.

    llguidance is not instrumented: what is found by its branches alone is short and soon all alike, so that every other
    input is the seed of a long one.
    """
    choices = Choices(random.Random(data).randbytes(LONG) if data[:1] >= b"\x80" else data)
    kind = choices.pick([*ConstraintKind])
    raw = choices.byte() & 3 == 0
    if raw:
        text = choices.rest().decode("utf-8", "replace")
    elif kind is ConstraintKind.JSON_SCHEMA:
        text = choices.object(KEYS)
    else:
        parts = REGEX if kind is ConstraintKind.REGEX else LARK
        text = "".join(choices.pick(parts) for _ in range(choices.byte() % 30))
    began = time.process_time()
    try:
        grammar = compile_grammar(vocabulary(), check(Constraint(kind, text)))
    except ConstraintError as error:
        assert len(str(error)) < 1000
    else:
        matcher = grammar.matcher()
        for token in choices.take(8):
            if matcher.is_stopped() or matcher.is_error() or not matcher.try_consume_tokens([token % VOCAB_SIZE]):
                break
            matcher.compute_bitmask()
    assert time.process_time() - began < SECONDS, text


SEEDS = [
    b"\0\1\2\0\5\0\0",
    b'\0\0{"type":"object","properties":{"a":{"$ref":"#"}}}',
    b"\1\0(a|b){3,9}c*",
    b'\2\0start: "a" b\nb: /[a-z]+/ | "x" start',
    b'\2\0root ::= "a" root | [0-9]+',
    *(bytes([kind, 1, 6, *range(index, index + 6)]) for kind in (1, 2) for index in range(0, 36, 6)),
]
