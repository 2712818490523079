"""How large the divisors in JSON schemas may be, since llguidance has no limit for them.

It follows the remainder of a number's digits in an automaton of as many states as the divisor has remainders, and makes
all of them before the first mask: ``{"multipleOf": 99999999}`` takes minutes and memory without end.
"""

from __future__ import annotations

import re
from decimal import Decimal
from math import lcm

from runtime.constraints.specification import ConstraintError

MAX_DIVISOR = 100_000
"""Under a second of work, and 100 MB."""

_LONGEST_NUMBER = 40
_DIVISOR = re.compile(r'"multipleOf"\s*:\s*([-+.0-9eE]+)')
_ESCAPED = re.compile(r"\\u00([0-7][0-9a-fA-F])")


def check_divisors(text: str) -> None:
    """Look at every ``multipleOf`` in a schema, or in a grammar that has schemas in it.

    Those of subschemas that hold together (``allOf`` and others) become their least common multiple, so that has to be
    within bounds. Powers of ten cost nothing.

    Raises:
        ConstraintError: They are too large.
    """
    if "multipleOf" not in text and "\\u00" not in text:
        return
    plain = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    if lcm(*map(_significand, _DIVISOR.findall(plain))) > MAX_DIVISOR:
        message = f"multipleOf: the least common multiple of all divisors may be {MAX_DIVISOR}, powers of ten apart"
        raise ConstraintError(message)


def _significand(number: str) -> int:
    """The digits between the leading and the trailing zeros; 1 for what is no number, which llguidance refuses."""
    try:
        digits = Decimal(number[:_LONGEST_NUMBER]).as_tuple().digits
    except ArithmeticError:
        return 1
    return int("".join(map(str, digits)).rstrip("0") or "1")
