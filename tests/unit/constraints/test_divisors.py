"""Divisors in schemas, which cost an automaton of their size."""

from __future__ import annotations

import pytest

from runtime.constraints import ConstraintError, check
from runtime.constraints.divisors import MAX_DIVISOR, check_divisors
from runtime.request import Constraint, ConstraintKind


@pytest.mark.parametrize(
    "schema",
    [
        '{"type":"object"}',
        '{"multipleOf":7}',
        f'{{"multipleOf":{MAX_DIVISOR - 1}}}',
        '{"multipleOf":3000000000}',
        '{"multipleOf":0.01}',
        '{"properties":{"a":{"multipleOf":0.25},"b":{"multipleOf":60},"c":{"multipleOf":7}}}',
        '{"description":"\\"multipleOf\\": 99999999"}',
        '{"multipleOf":"99999999"}',
        '{"multipleOf":1e}',
    ],
)
def test_usual_ones_pass(schema: str) -> None:
    check_divisors(schema)


@pytest.mark.parametrize(
    "schema",
    [
        '{"multipleOf":99999999}',
        '{"multipleOf" :\n 99999.999}',
        '{"items":{"multipleOf":-393474}}',
        '{"multiple\\u004ff":99999999}',
        '{"allOf":[{"multipleOf":9973},{"multipleOf":9967}]}',
        '{"multipleOf":' + "9" * 100_000 + "}",
        'start: %json {"multipleOf":99999999}',
    ],
)
def test_large_ones_are_refused_before_anything_is_made_of_them(schema: str) -> None:
    with pytest.raises(ConstraintError, match="least common multiple"):
        check_divisors(schema)


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint(ConstraintKind.JSON_SCHEMA, '{"multipleOf":99999999}'),
        Constraint(ConstraintKind.LARK, 'start: %json {"multipleOf":99999999}'),
    ],
)
def test_a_constraint_with_a_large_one_cannot_be_had(constraint: Constraint) -> None:
    with pytest.raises(ConstraintError, match="multipleOf"):
        check(constraint)
